"""A file that is written whole or not at all.

Enters: a name, or ``-``. Leaves: a stream to write to. Left to others: what is written.
"""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from schemas.errors import UsageError


@contextmanager
def open_target(to: str, force: bool) -> Iterator[BinaryIO]:
    """The file ``to``, or stdout for ``-``, for writing.

    What is written goes to a file beside ``to``, which takes its name once all is well and is
    removed if not, so that under the name there is never a part.

    Raises:
        UsageError: if ``to`` is there (unless it is a file, and ``force``) or its folder is not.
    """
    if to == "-":
        if isinstance(sys.stdout.buffer, io.RawIOBase):  # PYTHONUNBUFFERED: it writes in part
            with open(sys.stdout.fileno(), "wb", closefd=False) as stdout:
                yield stdout
        else:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        return
    path = Path(to)
    if path.exists() and not (force and path.is_file()):
        raise UsageError(
            f"target {to}: exists; --force replaces it"
            if path.is_file()
            else f"target {to}: is not a file, expected a new name"
        )
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        file = beside.open("wb")
    except OSError as e:
        raise UsageError(f"target {to}: cannot be written: {e}") from e
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
