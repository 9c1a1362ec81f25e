"""The file system and the path that a URI stands for."""

from pathlib import Path

import pytest
from fsspec.implementations.arrow import ArrowFSWrapper
from fsspec.implementations.local import LocalFileSystem

from engine.storage.filesystem import filesystem


def test_a_path_and_a_file_uri_are_the_same(tmp_path: Path) -> None:
    for uri in (str(tmp_path / "a b"), (tmp_path / "a b").as_uri().replace("%20", " ")):
        fs, path = filesystem(uri)
        assert isinstance(fs, LocalFileSystem) and path == str(tmp_path / "a b")


def test_s3_is_pyarrows() -> None:
    fs, path = filesystem("s3://bucket/a/b.xml?region=us-east-1&endpoint_override=localhost:1")
    assert isinstance(fs, ArrowFSWrapper) and path == "bucket/a/b.xml"


def test_an_unknown_scheme_is_an_error() -> None:
    with pytest.raises(ValueError, match="gopher"):
        filesystem("gopher://host/x")
