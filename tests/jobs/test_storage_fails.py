"""A full disk, a read-only target, a server that errors: the cause is told, the table is whole, and
the same command goes on."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.fs
import pytest
from click.testing import Result
from deltalake import DeltaTable
from disks import mounted, remount
from s3_server import s3_server
from typer.testing import CliRunner

from jobs.cli import app

FAKE = "fake_backend:FakeBackend"
Writer = Callable[..., str]


def pubmark(source: str, to: str | Path, *options: str) -> Result:
    command = ["annotate", source, "--to", str(to), "--backend", FAKE, "--json", *options]
    return CliRunner().invoke(app, command)


def pmids(to: str | Path) -> list[int]:
    found = DeltaTable(f"{to}/annotations").to_pyarrow_table(columns=["pmid"])
    return sorted(found["pmid"].to_pylist())


def citations(count: int) -> list[tuple[Any, str, str]]:
    return [(i, f"Aspirin {i}", f"Of {i} we know. " * 20) for i in range(1, count + 1)]


def one_line(text: str) -> str:
    return " ".join(text.split())


# Local disks


@pytest.mark.usefixtures("ray_session")
def test_a_full_disk(tmp_path: Path, write_jsonl: Writer) -> None:
    source = write_jsonl(citations(320))
    with mounted(tmp_path / "disk", "size=128k") as disk:
        config = tmp_path / "job.yaml"
        config.write_text("commit_every_rows: 16\n")
        result = pubmark(source, disk / "t", "--config", str(config))
        assert result.exit_code == 1 and "No space left on device" in one_line(result.stderr)
        assert "Traceback" not in result.stderr
        done = pmids(disk / "t")
        assert 0 < len(done) < 320 and len(set(done)) == len(done)
        remount(disk, "size=64m")
        result = pubmark(source, disk / "t", "--config", str(config))
        assert result.exit_code == 0, result.stderr
        assert json.loads(result.stdout)["settled"] == len(done)
        assert pmids(disk / "t") == list(range(1, 321))


@pytest.mark.usefixtures("ray_session")
def test_a_disk_that_is_full_from_the_start(tmp_path: Path, write_jsonl: Writer) -> None:
    source = write_jsonl(citations(3))
    with mounted(tmp_path / "disk", "size=4k") as disk:
        (disk / "full").write_bytes(b"0" * 4096)
        result = pubmark(source, disk / "t")
        assert result.exit_code == 1 and "No space left on device" in one_line(result.stderr)
        remount(disk, "size=64m")
        assert pubmark(source, disk / "t").exit_code == 0
        assert pmids(disk / "t") == [1, 2, 3]


@pytest.mark.usefixtures("ray_session")
def test_a_read_only_target(tmp_path: Path, write_jsonl: Writer) -> None:
    first, both = write_jsonl(citations(2), "first.jsonl"), write_jsonl(citations(5))
    with mounted(tmp_path / "disk", "size=64m") as disk:
        assert pubmark(first, disk / "t").exit_code == 0
        remount(disk, "ro")
        for target in ("t", "new"):
            result = pubmark(both, disk / target)
            assert result.exit_code == 1 and "Read-only file system" in one_line(result.stderr)
            assert "Traceback" not in result.stderr
        assert pmids(disk / "t") == [1, 2]
        remount(disk, "rw")
        assert pubmark(both, disk / "t").exit_code == 0 and pmids(disk / "t") == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("ray_session")
def test_a_disk_that_fills_up_leaves_no_file_behind(
    tmp_path: Path, write_jsonl: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a mount: the last bytes of a Parquet file do not fit."""

    class Full:
        def __init__(self, stream: Any):
            self._stream = stream

        def __getattr__(self, name: str) -> Any:
            return getattr(self._stream, name)

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            self.close()

        def close(self) -> None:
            self._stream.close()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class FullFileSystem(pyarrow.fs.SubTreeFileSystem):  # type: ignore[misc, name-defined]
        def open_output_stream(self, path: str, *args: Any, **kwargs: Any) -> Any:
            return Full(super().open_output_stream(path))

    source = write_jsonl(citations(3))
    with monkeypatch.context() as patched:
        patched.setattr("engine.tables.layout.files.SubTreeFileSystem", FullFileSystem)
        result = pubmark(source, tmp_path / "t")
    assert result.exit_code == 1 and "No space left on device" in one_line(result.stderr)
    assert not list((tmp_path / "t/annotations").glob("*.parquet"))
    assert pubmark(source, tmp_path / "t").exit_code == 0 and pmids(tmp_path / "t") == [1, 2, 3]


# A server


@pytest.mark.usefixtures("ray_session")
def test_a_server_that_errors(
    tmp_path: Path,
    write_jsonl: Writer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    source, target = write_jsonl(citations(40)), "s3://bucket/t"
    config = tmp_path / "job.yaml"
    config.write_text("commit_every_rows: 16\n")

    def annotate(limit: int) -> Result:
        return pubmark(source, target, "--config", str(config), "--limit", str(limit))

    with s3_server(tmp_path) as server:
        # Of this process alone, which writes the table: Ray's workers read a local source.
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        assert annotate(20).exit_code == 0
        for part in (".parquet", "_delta_log"):
            server.refuse("/annotations/", part)
            failed = annotate(40)
            assert failed.exit_code == 1 and server.refused, failed.stderr
            assert "told to fail" in one_line(failed.stderr) or "ACCESS_DENIED" in failed.stderr
            assert "Traceback" not in failed.stderr and "panicked" not in capfd.readouterr().err
            assert pmids(target) == list(range(1, 21))
        server.refuse()
        done = annotate(40)
        assert done.exit_code == 0 and json.loads(done.stdout)["annotated"] == 20
        assert pmids(target) == list(range(1, 41))
