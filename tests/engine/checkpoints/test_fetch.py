"""Finding the files of a checkpoint: directories, URIs, hub ids."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from engine.checkpoints.fetch import fetch_base
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


def put(files: Path, uri: str, weights: bytes) -> None:
    fs, root = fsspec.url_to_fs(uri)
    for file in files.iterdir():
        fs.pipe_file(f"{root}/{file.name}", file.read_bytes())
    fs.pipe_file(f"{root}/model.safetensors", weights)


class ToldNothing(MemoryFileSystem):
    """A store that tells the sizes of files and nothing else, as some servers do."""

    protocol = "told-nothing"
    store: ClassVar[dict[str, Any]] = {}

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        found = super().ls(path, detail=detail, **kwargs)
        return [self._bare(f) for f in found] if detail else found

    def info(self, path: str, **kwargs: Any) -> Any:
        return self._bare(super().info(path, **kwargs))

    @staticmethod
    def _bare(info: dict[str, Any]) -> dict[str, Any]:
        return {k: info[k] for k in ("name", "size", "type")}


class ToldETags(ToldNothing):
    """A store that tells an ETag if asked for one file, and not in a listing."""

    protocol = "told-etags"
    store: ClassVar[dict[str, Any]] = {}
    reads = 0

    def info(self, path: str, **kwargs: Any) -> Any:
        content = bytes(self.store[self._strip_protocol(path)].getvalue())
        return super().info(path, **kwargs) | {"ETag": hashlib.md5(content).hexdigest()}

    def get_file(self, *args: Any, **kwargs: Any) -> Any:
        type(self).reads += 1
        return super().get_file(*args, **kwargs)


@pytest.mark.parametrize("scheme", ["memory", "told-nothing", "told-etags"])
def test_a_store_without_times_gives_no_stale_copy(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("PUBMARK_CACHE", str(tmp_path / "cache"))
    for kind in (ToldNothing, ToldETags):
        fsspec.register_implementation(kind.protocol, kind, clobber=True)
    files = make_checkpoint("remote")
    seen = []
    for weights in (b"123", b"124", b"124", b"123"):
        put(files, f"{scheme}://bucket/tuned", weights)
        load_checkpoint.cache_clear()
        path = Path(load_checkpoint(f"{scheme}://bucket/tuned").path)
        assert (path / "model.safetensors").read_bytes() == weights
        seen.append(path)
    assert seen[0] != seen[1] == seen[2]
    assert not list((tmp_path / "cache").rglob("*.part"))
    if scheme == "told-etags":
        assert seen[3] == seen[0] and ToldETags.reads == 2 * len(list(files.iterdir()))


COMMITS = ["a" * 40, "0123456789" * 4]


@pytest.fixture
def hub(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str], None]:
    """Points a branch of ``org/tuned`` at a commit, in a cache of the hub's. Its weights are the
    commit's first three characters."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub/models--org--tuned"
    for commit in COMMITS:
        made = make_checkpoint(commit)
        (made / "model.safetensors").write_bytes(commit[:3].encode())
        shutil.copytree(made, repository / "snapshots" / commit)

    def point(branch: str, commit: str) -> None:
        (repository / "refs" / branch).parent.mkdir(parents=True, exist_ok=True)
        (repository / "refs" / branch).write_text(commit)
        load_checkpoint.cache_clear()

    return point


@pytest.mark.parametrize(
    ("ref", "branch"),
    [("org/tuned", "main"), ("org/tuned@main", "main"), ("org/tuned@v1.0", "v1.0"),
     ("org/tuned@feature/lists", "feature/lists")],
)  # fmt: skip
def test_a_hub_id_is_pinned_to_its_commit(
    hub: Callable[[str, str], None], ref: str, branch: str
) -> None:
    hub(branch, COMMITS[0])
    first = load_checkpoint(ref)
    assert first.ref == f"org/tuned@{COMMITS[0]}"
    hub(branch, COMMITS[1])
    # On a late node, and in a later run of the same annotator.
    again = load_checkpoint(first.ref)
    assert (Path(again.path) / "model.safetensors").read_bytes() == b"aaa"
    assert load_checkpoint(ref).ref == f"org/tuned@{COMMITS[1]}"


def test_a_revision_that_does_not_exist_is_named(hub: Callable[[str, str], None]) -> None:
    hub("main", COMMITS[0])
    with pytest.raises(
        UsageError, match=r"checkpoint org/tuned@v9: no such directory, and the hub"
    ):
        load_checkpoint("org/tuned@v9")


def test_the_base_of_an_adapter_may_name_its_revision(hub: Callable[[str, str], None]) -> None:
    hub("main", COMMITS[0])
    hub("v2", COMMITS[1])
    for name, revision, commit in (
        ("org/tuned", None, 0),
        ("org/tuned", "v2", 1),
        ("org/tuned@v2", None, 1),
        ("org/tuned@v2", "main", 1),
    ):
        assert (
            fetch_base(name, revision, "s3://b/adapter", Path("/nowhere")).name == COMMITS[commit]
        )
