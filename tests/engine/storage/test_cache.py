"""Where the cache is."""

import os
import stat
from pathlib import Path

import pytest

from engine.storage import cache
from engine.storage.cache import cache_folder, home


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PUBMARK_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("PUBMARK_CACHE")
    assert cache_folder() == tmp_path / ".cache/pubmark"
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("where", ["missing", "a file"])
def test_without_a_home_it_is_a_folder_of_this_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    (tmp_path / "a file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / where))
    monkeypatch.delenv("PUBMARK_CACHE", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    cache._temporary.cache_clear()
    assert home() is None
    folder = cache_folder()
    assert folder == tmp_path / f"pubmark-{os.getuid()}"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    monkeypatch.setenv("PUBMARK_CACHE", "~/mine")  # of a home that is not there
    assert cache_folder() == folder
    monkeypatch.setenv("PUBMARK_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    cache._temporary.cache_clear()


def test_a_folder_that_others_may_write_to_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    planted = tmp_path / f"pubmark-{os.getuid()}"
    planted.mkdir()
    planted.chmod(0o777)
    cache._temporary.cache_clear()
    assert cache._temporary() != planted
    planted.rmdir()
    planted.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    cache._temporary.cache_clear()
    assert cache._temporary() not in (planted, tmp_path / "elsewhere")
    cache._temporary.cache_clear()
