"""Numbered lines, whatever their ends, zipped or not; bad bytes and broken zips named."""

import gzip
import io

import pytest

from engine.corpora.formats.lines import read_lines
from schemas.errors import DamagedSource


def lines(data: bytes) -> list[tuple[int, str]]:
    return [(n, x) for n, x in read_lines(io.BytesIO(data)) if isinstance(x, str)]


@pytest.mark.parametrize("data", [b"a\nb", b"a\r\nb\r\n", b"\xef\xbb\xbfa\nb\n"])
def test_line_ends_and_mark(data: bytes) -> None:
    assert lines(data) == lines(gzip.compress(data)) == [(1, "a"), (2, "b")]


def test_no_other_line_ends() -> None:
    assert lines("a\u2028b\x85c\x0bd\r\n\n".encode()) == [(1, "a\u2028b\x85c\x0bd"), (2, "")]


def test_bad_bytes_are_one_line() -> None:
    first, bad, last = read_lines(io.BytesIO(b"a\nna\xefve\nb"))
    assert (first, last) == ((1, "a"), (3, "b"))
    assert bad[0] == 2
    assert isinstance(bad[1], UnicodeDecodeError)


def test_broken_gzip() -> None:
    data = gzip.compress(b"a\n" + bytes(range(256)) * 50)[:-20]
    with pytest.raises(DamagedSource, match="damaged gzip"):
        list(read_lines(io.BytesIO(data)))
