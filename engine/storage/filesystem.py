"""The file system behind a URI: fsspec's way of opening it, with Arrow's implementation where it
has one.

Enters: a path or URI. Leaves: an fsspec file system and the path in it. Credentials and endpoints
come from the usual variables of each store.
"""

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
