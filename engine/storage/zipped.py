"""A stream, unzipped if it is gzip: told by its first bytes, never by its name."""

import gzip
from typing import IO, cast


def unzip(stream: IO[bytes]) -> IO[bytes]:
    """The stream itself or, if it is gzip by its first bytes, what is zipped in it."""
    head = stream.read(2)
    stream.seek(0)
    return cast("IO[bytes]", gzip.GzipFile(fileobj=stream)) if head == b"\x1f\x8b" else stream
