"""Finding the files of a checkpoint: directories, URIs, hub ids."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.checkpoints.load import load_checkpoint
from schemas.errors import UsageError

Make = Callable[[str], Path]


def test_a_relative_path_becomes_one_that_is_good_elsewhere(
    make_checkpoint: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_checkpoint("relative-name")
    monkeypatch.chdir(path.parent)
    assert load_checkpoint("relative-name").ref == str(path)


@pytest.mark.parametrize("ref", ["no-such-checkpoint", "./no/such", "/no/such/", "~/no such/"])
def test_a_missing_directory_is_named(ref: str) -> None:
    with pytest.raises(UsageError, match="does not exist; expected a directory, a URI or a hub id"):
        load_checkpoint(ref)


def test_a_hub_id_that_is_not_here_is_named_when_offline(tmp_path: Path) -> None:
    program = (
        "from engine.checkpoints.load import load_checkpoint; load_checkpoint('nobody/nothing')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "UsageError: checkpoint nobody/nothing: no such directory, and the hub" in last


def test_a_uri_is_fetched_once_for_each_change_of_it(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBMARK_CACHE", str(tmp_path / "cache"))
    source = make_checkpoint("remote")
    fetched = []
    for weights in (b"123", b"123", b"456"):
        if (source / "model.safetensors").read_bytes() != weights:
            (source / "model.safetensors").write_bytes(weights)
        load_checkpoint.cache_clear()
        checkpoint = load_checkpoint(source.as_uri())
        assert checkpoint.ref == source.as_uri()
        path = Path(checkpoint.path)
        assert path.is_relative_to(tmp_path / "cache")
        assert (path / "model.safetensors").read_bytes() == weights
        fetched.append((path, (path / "model.safetensors").stat().st_ino))
    assert fetched[0] == fetched[1]
    assert fetched[1][0] != fetched[2][0]
    assert not list((tmp_path / "cache").rglob("*.part"))


@pytest.mark.parametrize("scheme", ["file", "nonsense"])
def test_a_uri_that_cannot_be_opened_is_named(tmp_path: Path, scheme: str) -> None:
    with pytest.raises(UsageError, match=f"checkpoint {scheme}://.*: cannot be opened"):
        load_checkpoint(f"{scheme}://{tmp_path}/nothing")
