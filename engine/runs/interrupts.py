"""Ctrl-C and SIGTERM as one orderly interruption, never in the middle of a commit."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self


class Interrupts:
    """While entered, SIGINT and SIGTERM raise KeyboardInterrupt; inside :meth:`deferred`, after it.

    Enter it after Ray was started: Ray installs a SIGTERM handler of its own. Outside the main
    thread, which alone may handle signals, it does nothing.
    """

    def __init__(self) -> None:
        self._shielded = False
        self._pending = False

    def __enter__(self) -> Self:
        handled = (signal.SIGINT, signal.SIGTERM) if _in_main_thread() else ()
        self._before = {s: signal.signal(s, self._handle) for s in handled}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Let the block end first."""
        self._shielded = True
        try:
            yield
        finally:
            self._shielded = False
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._shielded:
            self._pending = True
        else:
            raise KeyboardInterrupt


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
