"""That this run may still write: asked before each write of a table.

Enters: a check, for the time of a block. Leaves: its error, raised where something would be
written. Left to others: what the check looks at (refresh/lock.py). Most runs need none: their
commits are conditional, and do no harm beside those of others.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_CHECK: ContextVar[Callable[[], None] | None] = ContextVar("exclusive", default=None)


@contextmanager
def exclusive(check: Callable[[], None]) -> Iterator[None]:
    """Call ``check`` before each write that this thread makes within the block; it raises if there
    may be no more."""
    token = _CHECK.set(check)
    try:
        yield
    finally:
        _CHECK.reset(token)


def check_exclusive() -> None:
    """Raise what the check of the block around raises; without one, do nothing."""
    if (check := _CHECK.get()) is not None:
        check()
