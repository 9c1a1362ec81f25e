"""Ctrl-C and SIGTERM as one orderly interruption, never in the middle of a commit."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self


class Interrupts:
    """While entered, SIGINT and SIGTERM raise KeyboardInterrupt; inside :meth:`deferred`, after it.

    Enter it in the main thread, after Ray was started: Ray installs a SIGTERM handler of its own.
    """

    def __init__(self) -> None:
        self._shielded = False
        self._pending = False

    def __enter__(self) -> Self:
        self._before = {
            s: signal.signal(s, self._handle) for s in (signal.SIGINT, signal.SIGTERM)
        }
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
