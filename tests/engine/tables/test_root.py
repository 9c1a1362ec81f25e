"""Roots as people give them."""

from pathlib import Path

import pytest
from tables import fill, texts

from engine.tables.root import local_path, location
from engine.tables.store import Store
from schemas.errors import UsageError


@pytest.mark.parametrize(
    ("root", "path"),
    [
        ("/a/b", "/a/b"),
        ("a#b ?", "a#b ?"),
        ("file:///a/b", "/a/b"),
        ("file:/a/b", "/a/b"),
        ("file://localhost/a", "/a"),
        ("file:///a%20b/%C3%A9%23", "/a b/é#"),
        ("file:///a b/é#1?", "/a b/é#1?"),
        ("file:///100%", "/100%"),
        ("file:///a%2520b", "/a%20b"),
        ("s3://bucket/a%20b", "s3://bucket/a%20b"),
        ("s3:a", "s3:a"),
    ],
)
def test_the_path_of_a_root(root: str, path: str) -> None:
    assert local_path(root) == path


def test_a_location_is_absolute() -> None:
    assert location("t") == str(Path.cwd() / "t")
    assert location("s3:t") == str(Path.cwd() / "s3:t")
    assert location("file:///t%20u") == "/t u"
    assert location("s3://bucket/a b/100%") == "s3://bucket/a b/100%25"


@pytest.mark.parametrize(
    "root",
    ["", "a%20b", "a%2Fb", "file:///a%2520b", "a[1]", "a]", "a^b", "a|b", "a\\b", "a\nb", "a\tb",
     "a\x1bb", "a\x7f", "a\udcff", "file:///a%0Ab", "file:///a%5Cb", "file://host/a",
     "s3://bucket/a#b", "s3://bucket/a?b", "s3://bucket/a%2520b", "s3://bucket/a\\b",
     "s3://bucket/a\nb", "s3://bucket/a%0Ab", "s3://bucket/[a]"],
)  # fmt: skip
def test_a_name_that_delta_does_not_take_is_refused(root: str) -> None:
    with pytest.raises(UsageError, match="expected"):
        location(root)
    with pytest.raises(UsageError, match="expected"):
        Store(root).check()
    with pytest.raises(UsageError, match="expected"):
        Store(root).load()


def test_so_is_a_name_above_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a[1]").mkdir()
    monkeypatch.chdir(tmp_path / "a[1]")
    with pytest.raises(UsageError, match=r"\[ \] in its path"):
        Store("t").check()


@pytest.mark.parametrize("name", ["a:b", "s3:x", "~", "-", "..x", "a\u200bb\u202e", "%", "\x85"])
def test_a_relative_name_is_a_folder_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store(name)
    store.check()
    store.create()
    fill(store, [1])
    assert texts(Store(str(tmp_path / name))) == {1: "x 1"}
