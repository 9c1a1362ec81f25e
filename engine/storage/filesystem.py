"""The file system behind a URI.

Enters: a local path or a URI. Leaves: an fsspec file system, and the path in it. Left to others:
everything that is done with the files there.
"""

import io
from typing import IO, Any, cast

import fsspec
from fsspec.implementations.arrow import ArrowFSWrapper

from engine.storage.guard import guard_logs
from schemas.credentials import learn

ARROW_SCHEMES = ("s3", "gs", "gcs", "hdfs")
"""The schemes for which pyarrow has a file system of its own."""

_BLOCK_BYTES = 4 << 20


def filesystem(uri: str) -> tuple[Any, str]:
    """The file system for ``uri`` and the path in it: pyarrow's own, wrapped, where it has one.

    From the first URI with credentials on, this process's logs are guarded: errors of file systems
    quote URIs and paths.

    Raises:
        Exception: of a type that depends on the file system, if there is none for the URI.
    """
    if learn(uri):
        guard_logs()
    scheme = uri.split("://", 1)[0] if "://" in uri else ""
    if scheme in ARROW_SCHEMES:
        from pyarrow.fs import FileSystem

        arrow_fs, path = FileSystem.from_uri(uri)
        return ArrowFSWrapper(arrow_fs), path
    return fsspec.url_to_fs(uri)


def open_input(fs: Any, path: str) -> IO[bytes]:
    """A file's bytes, seekable, read from a store in blocks of _BLOCK_BYTES.

    pyarrow's files of an object store ask it at every read, and a line is read byte by byte: a file
    of 1,971 bytes in lines took 1,973 requests. fsspec's own file systems have blocks of their own.
    """
    stream = fs.open(path, "rb")
    if isinstance(fs, ArrowFSWrapper):
        return cast("IO[bytes]", io.BufferedReader(stream, _BLOCK_BYTES))
    return cast("IO[bytes]", stream)
