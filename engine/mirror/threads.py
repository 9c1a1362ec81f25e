"""Threads that work through a list and can be left behind."""

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
    todo: Sequence[T],
    work: Callable[[T], U],
    *,
    threads: int,
    tick: Callable[[], None],
    stop: Callable[[], None],
) -> Generator[tuple[T, U | Exception], None, None]:
    """Yield each of ``todo`` with the result or the exception of ``work``, as they end.

    They are begun in order. ``tick`` is called in between, from the caller's thread. If the caller
    stops iterating, also by an exception, ``stop`` is called, which makes ``work`` raise Stopped;
    threads that have not ended within a few seconds are left behind. A ThreadPoolExecutor would not
    do: Python waits for its threads at exit, and one may be in a read that stalls.
    """
    waiting: SimpleQueue[T] = SimpleQueue()
    done: SimpleQueue[tuple[T, U | Exception]] = SimpleQueue()
    for one in todo:
        waiting.put(one)

    def loop() -> None:
        while True:
            try:
                one = waiting.get_nowait()
            except Empty:
                return
            try:
                done.put((one, work(one)))
            except Stopped:
                return
            except Exception as e:
                done.put((one, e))

    started = [threading.Thread(target=loop, daemon=True) for _ in range(min(threads, len(todo)))]
    for thread in started:
        thread.start()
    left = len(todo)
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
        over = time.monotonic() + _JOIN_SECONDS
        for thread in started:
            thread.join(max(0.0, over - time.monotonic()))
        tick()
