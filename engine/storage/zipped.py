"""Gzip, known by a stream's first bytes: files are renamed and recompressed more often than one
would think, so that a name says little.

Enters: a seekable stream of bytes at its start. Leaves: the stream of what is in it. Left to
others: naming the damage where a gzip stream breaks (``gzip.BadGzipFile``, ``EOFError``,
``zlib.error`` while reading).
"""

import gzip
from typing import IO, cast

_MAGIC = b"\x1f\x8b"


def is_gzip(stream: IO[bytes]) -> bool:
    """Whether the stream begins as gzip does; it is at its start again afterwards."""
    head = stream.read(len(_MAGIC))
    stream.seek(0)
    return head == _MAGIC


def unzip(stream: IO[bytes]) -> IO[bytes]:
    """The stream itself or, if it is gzip, a stream of its unzipped bytes."""
    return (
        cast("IO[bytes]", gzip.GzipFile(fileobj=stream, mode="rb")) if is_gzip(stream) else stream
    )
