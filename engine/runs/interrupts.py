"""Ctrl-C and SIGTERM as KeyboardInterrupt, but never in the middle of a commit.

Enters: signals. Leaves: a KeyboardInterrupt, at once or after a deferred block. Left to others:
what a run does with it (result.py).
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, Self


class Interrupts:
    """Within the block SIGINT and SIGTERM raise KeyboardInterrupt; within :meth:`deferred` they do
    so once that block has ended.

    They do it once. What winds up the work after that, a last commit above all, is not interrupted
    by a service manager that repeats its SIGTERM; only by Ctrl-C, and not within ``deferred``.

    Enter it after Ray was started, which installs its own SIGTERM handler. In another thread than
    the main one it does nothing, since only the main thread may handle signals.
    """

    def __init__(self) -> None:
        self._shielded = False
        self._pending = False
        self._interrupted = False

    def __enter__(self) -> Self:
        handled = (signal.SIGINT, signal.SIGTERM) if _in_main_thread() else ()
        self._before = {s: signal.signal(s, self._handle) for s in handled}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Hold an interruption back until the block has ended."""
        self._shielded = True
        try:
            yield
        finally:
            self._shielded = False
        if self._pending:
            self._pending = False
            self._interrupt()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._shielded:
            self._pending = not self._interrupted
        elif number == signal.SIGINT or not self._interrupted:
            self._interrupt()

    def _interrupt(self) -> NoReturn:
        self._interrupted = True
        raise KeyboardInterrupt


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
