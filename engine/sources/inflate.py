"""The bytes of a file, unzipped if it is gzip, up to the very byte where it is damaged.

Enters: a seekable stream at its start. Leaves: its bytes in pieces, at three times zlib's speed.
Left to others: what is done with all that came before the damage (pubmed_xml.py).
"""

import zlib
from collections.abc import Callable, Iterator
from typing import IO

from isal import igzip
from isal.igzip_lib import IsalError

from engine.storage.zipped import is_gzip

_CHUNK_BYTES = 1 << 17
_GZIP_FAULTS = {
    f"Error -3 while decompressing data: incorrect {what} check": said
    for what, said in {
        "data": "CRC check failed", "length": "wrong length",
        "header": "no gzip header where one should be",
    }.items()
}  # fmt: skip


def inflate(stream: IO[bytes]) -> Iterator[bytes]:
    """The bytes of a file, unzipped if it is gzip, in pieces, up to where it is damaged.

    Raises:
        EOFError, zlib.error: where a gzip file is damaged, after every byte before that place.
    """
    if not is_gzip(stream):
        yield from _pieces(stream.read)
        return
    yielded = 0
    try:
        fast = igzip.IGzipFile(fileobj=stream)  # type: ignore[no-untyped-call]
        for piece in _pieces(fast.read1):
            yielded += len(piece)
            yield piece
        return
    except (OSError, EOFError, IsalError):  # type: ignore[misc]
        stream.seek(0)
    # isal is three times as fast as zlib, but where it meets damage it drops the bytes that it has
    # unzipped just before. So zlib reads the file again, for what has not been yielded yet.
    for piece in _inflated(stream):
        if len(piece) > yielded:
            yield piece[yielded:]
        yielded = max(0, yielded - len(piece))


def _inflated(stream: IO[bytes]) -> Iterator[bytes]:
    """Unzip all members of a gzip file, in pieces, up to the very byte where it is damaged.

    Python's gzip module would lose up to 128 KB before the damage, which zlib had unzipped already.

    Raises:
        zlib.error: where the file is damaged.
        EOFError: at its end, if it is cut off.
    """
    member, rest, first = None, b"", True
    while rest := rest or stream.read(_CHUNK_BYTES):
        if member is None:
            rest = rest if first else rest.lstrip(b"\0")  # zeros may follow a member
            if not rest:
                continue
            member, first = zlib.decompressobj(16 + zlib.MAX_WBITS), False
        before = member.copy()
        try:
            piece = member.decompress(rest, _CHUNK_BYTES)
        except zlib.error:
            # Byte by byte from the state before: whatever is whole comes out first.
            for i in range(len(rest)):
                yield before.decompress(rest[i : i + 1])
            raise
        rest = member.unconsumed_tail
        if member.eof:
            rest, member = member.unused_data, None
        yield piece
    if member is not None:
        yield member.flush()
        if not member.eof:
            raise EOFError("the file ends before its gzip data does")


def _pieces(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while piece := read(_CHUNK_BYTES):
        yield piece


def describe(fault: Exception) -> str:
    """What is wrong with a gzip file, in words."""
    return _GZIP_FAULTS.get(str(fault), str(fault))
