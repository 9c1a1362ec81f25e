"""A few threads that can be left behind."""

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
    """Each of ``todo``, begun in order, with what ``work`` gave or raised, as they end.

    ``tick`` is called in between, from the caller's thread. Whoever iterates no further, be it by
    an exception, has ``stop`` called, which makes ``work`` raise Stopped; what is then not over
    within a few seconds is left to end by itself. That is why this is no ThreadPoolExecutor: its
    threads are waited for at exit, and one may be in a read that stalls.
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
