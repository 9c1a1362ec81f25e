"""Work shared out among a few threads, which need not be waited for at the end.

Enters: tasks in order, and a function. Leaves: each task with its outcome, as they end. Left to
others: what the work is, and how it is told to stop.
"""

import threading
import time
from collections.abc import Callable, Generator, Sequence
from queue import Empty, SimpleQueue
from typing import TypeVar

from engine.mirror.patience import Stopped

T = TypeVar("T")
U = TypeVar("U")

_TICK_SECONDS = 0.25
_JOIN_SECONDS = 2.0


def work_through(
    tasks: Sequence[T],
    work: Callable[[T], U],
    *,
    threads: int,
    tick: Callable[[], None],
    stop: Callable[[], None],
) -> Generator[tuple[T, U | Exception], None, None]:
    """Yield each task with what ``work`` returned or raised for it, in the order in which they end.

    Tasks are begun in the order given. ``tick`` is called several times a second, in the caller's
    thread. If the caller iterates no further, by an exception too, ``stop`` is called, which has
    to make ``work`` raise Stopped. A thread that has not ended within two seconds of that is left
    to end by itself. That is why this is no ThreadPoolExecutor: its threads are waited for at
    exit, and one may be in a read that stalls.
    """
    waiting: SimpleQueue[T] = SimpleQueue()
    done: SimpleQueue[tuple[T, U | Exception]] = SimpleQueue()
    for task in tasks:
        waiting.put(task)

    def loop() -> None:
        while True:
            try:
                task = waiting.get_nowait()
            except Empty:
                return
            try:
                done.put((task, work(task)))
            except Stopped:
                return
            except Exception as e:
                done.put((task, e))

    started = [threading.Thread(target=loop, daemon=True) for _ in range(min(threads, len(tasks)))]
    for thread in started:
        thread.start()
    left = len(tasks)
    try:
        while left:
            tick()
            try:
                ended = done.get(timeout=_TICK_SECONDS)
            except Empty:
                continue
            left -= 1
            yield ended
    finally:
        if left:
            stop()
        deadline = time.monotonic() + _JOIN_SECONDS
        for thread in started:
            thread.join(max(0.0, deadline - time.monotonic()))
        tick()
