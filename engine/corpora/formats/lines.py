"""A corpus's file as numbered lines, plain or gzip, in UTF-8.

Enters: a stream of bytes. Leaves: lines with their numbers. Left to others: what a line means.
"""

import gzip
import zlib
from collections.abc import Iterator
from typing import IO

from engine.storage.zipped import unzip
from schemas.errors import DamagedSource


def read_lines(stream: IO[bytes]) -> Iterator[tuple[int, str | UnicodeDecodeError]]:
    r"""Yield the number, from 1, and the text of each line, without its end (``\n``, ``\r\n``).

    In place of a line that is not UTF-8 comes the error. A byte order mark at the start is dropped.

    Raises:
        DamagedSource: where a gzip stream breaks.
    """
    lines = unzip(stream)
    number = 0
    while True:
        try:
            line = lines.readline()
        except (gzip.BadGzipFile, EOFError, zlib.error) as e:
            raise DamagedSource(f"after line {number}", f"damaged gzip: {e}") from e
        if not line:
            return
        number += 1
        line = line.removesuffix(b"\n").removesuffix(b"\r")
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        try:
            yield number, line.decode()
        except UnicodeDecodeError as e:
            yield number, e
