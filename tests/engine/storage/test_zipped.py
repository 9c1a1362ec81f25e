"""Gzip is known by its first bytes, whatever a file is called."""

import gzip
import io
import zlib

import pytest

from engine.storage.zipped import is_gzip, unzip


@pytest.mark.parametrize("data", [b"", b"\x1f", b"plain", b"\x8b\x1f"])
def test_what_is_not_gzip_is_left_as_it_is(data: bytes) -> None:
    stream = io.BytesIO(data)
    assert not is_gzip(stream) and stream.tell() == 0
    assert unzip(stream) is stream and stream.read() == data


def test_gzip_is_unzipped_all_members_of_it() -> None:
    stream = io.BytesIO(gzip.compress(b"one\n", mtime=0) + gzip.compress(b"two\n", mtime=0))
    assert is_gzip(stream) and stream.tell() == 0
    assert unzip(stream).read() == b"one\ntwo\n"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (gzip.compress(b"one", mtime=0)[:-4], EOFError),
        (gzip.compress(b"one", mtime=0) + b"x", gzip.BadGzipFile),
        (gzip.compress(b"one", mtime=0)[:10] + b"\xff" * 20, zlib.error),
    ],
)
def test_damage_shows_while_reading(data: bytes, error: type[Exception]) -> None:
    stream = unzip(io.BytesIO(data))
    with pytest.raises(error):
        stream.read()
