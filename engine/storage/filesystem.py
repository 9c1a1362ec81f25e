"""The file system behind a URI."""

from typing import Any

import fsspec
from fsspec.implementations.arrow import ArrowFSWrapper

ARROW_SCHEMES = ("s3", "gs", "gcs", "hdfs")


def filesystem(uri: str) -> tuple[Any, str]:
    """The fsspec file system for ``uri`` and the path in it; pyarrow's own where it has one."""
    scheme = uri.split("://", 1)[0] if "://" in uri else ""
    if scheme in ARROW_SCHEMES:
        from pyarrow.fs import FileSystem

        arrow_fs, path = FileSystem.from_uri(uri)
        return ArrowFSWrapper(arrow_fs), path
    return fsspec.url_to_fs(uri)
