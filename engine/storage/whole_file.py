"""A file that is written whole or not at all.

Enters: the name of a local file, or ``-`` for stdout. Leaves: a stream to write to; under the name
there is the whole file once the block has ended well, and nothing new if it has not. Left to
others: what is written.
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
    """Open the file ``to``, or stdout for ``-``, for writing.

    The bytes go to a hidden file beside ``to``. When the block ends well that file is renamed to
    ``to``; when the block raises it is deleted. So a reader of ``to`` never sees half a file.

    Raises:
        UsageError: if ``to`` exists (unless it is a file, and ``force``), or cannot be written,
            as where its folder is missing.
    """
    if to == "-":
        # With PYTHONUNBUFFERED stdout is a raw stream, whose write may take a part only.
        if isinstance(sys.stdout.buffer, io.RawIOBase):
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
