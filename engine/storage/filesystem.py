"""The file system behind a URI.

Enters: a local path or a URI. Leaves: an fsspec file system, and the path in it. Left to others:
everything that is done with the files there.
"""

from typing import Any

import fsspec
from fsspec.implementations.arrow import ArrowFSWrapper

from engine.storage.guard import guard_logs
from schemas.credentials import learn

ARROW_SCHEMES = ("s3", "gs", "gcs", "hdfs")
"""The schemes for which pyarrow has a file system of its own."""


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
