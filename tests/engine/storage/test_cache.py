"""Where the cache is."""

from pathlib import Path

import pytest

from engine.storage.cache import cache_folder


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PUBMARK_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("PUBMARK_CACHE")
    assert cache_folder() == tmp_path / ".cache/pubmark"
    assert not any(tmp_path.iterdir())
