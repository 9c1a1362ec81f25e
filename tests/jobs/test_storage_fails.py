"""A full disk, a read-only target, a server that errors: the cause is told, the table is whole, and
the same command goes on."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pyarrow.fs
import pytest
from click.testing import Result
from deltalake import DeltaTable
from disks import mounted, remount
from moto.moto_server import threaded_moto_server
from typer.testing import CliRunner

from jobs.cli import app

ROOT = Path(__file__).parents[2]
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


class Server:
    """An S3 server that can be told to answer some requests with an error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fails: Callable[[str, str], bool] = lambda method, path: False
        self.failed = 0
        make_server = threaded_moto_server.make_server

        def make(host: str, port: int, app: Any, *args: Any, **kwargs: Any) -> Any:
            return make_server(host, port, partial(self._answer, app), *args, **kwargs)

        monkeypatch.setattr(threaded_moto_server, "make_server", make)
        self._moto = threaded_moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
        self._moto.start()
        host, port = self._moto.get_host_and_port()
        self.url = f"http://{host}:{port}"

    def stop(self) -> None:
        self._moto.stop()

    def _answer(self, app: Any, environ: dict[str, Any], start_response: Any) -> Any:
        if not self.fails(environ["REQUEST_METHOD"], environ["PATH_INFO"]):
            return app(environ, start_response)
        self.failed += 1
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0) or -1)
        answer = b"<Error><Code>AccessDenied</Code><Message>told to fail</Message></Error>"
        headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(answer)))]
        start_response("403 Forbidden", headers)
        return [answer]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server(monkeypatch)
    s3 = boto3.client(
        "s3", endpoint_url=made.url, region_name="us-east-1",
        aws_access_key_id="test", aws_secret_access_key="test",
    )  # fmt: skip
    s3.create_bucket(Bucket="bucket")
    yield made
    made.stop()


def test_a_server_that_errors(tmp_path: Path, write_jsonl: Writer, server: Server) -> None:
    source, target = write_jsonl(citations(40)), "s3://bucket/t"
    config = tmp_path / "job.yaml"
    config.write_text("commit_every_rows: 16\n")
    options = {
        "AWS_ENDPOINT_URL": server.url, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests/support")]),
    }  # fmt: skip

    def annotate(limit: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", "from jobs.cli import main; main()", "annotate", source, "--to",
             target, "--backend", FAKE, "--json", "--config", str(config), "--limit",
             str(limit)],
            cwd=ROOT, env=os.environ | options, capture_output=True, text=True,
        )  # fmt: skip

    def count() -> int:
        storage = {k: v for k, v in options.items() if k != "PYTHONPATH"}
        found = DeltaTable(f"{target}/annotations", storage_options=storage)
        rows = found.to_pyarrow_table(columns=["pmid"])["pmid"].to_pylist()
        assert len(set(rows)) == len(rows)
        return len(rows)

    def fail(part: str, method: str, path: str) -> bool:
        return method == "PUT" and "/annotations/" in path and part in path

    assert annotate(20).returncode == 0
    for part in (".parquet", "_delta_log"):
        server.fails, server.failed = partial(fail, part), 0
        failed = annotate(40)
        assert failed.returncode == 1 and server.failed, failed.stderr
        assert "told to fail" in one_line(failed.stderr) or "ACCESS_DENIED" in failed.stderr
        assert "Traceback" not in failed.stderr and "panicked" not in failed.stderr
        assert count() == 20
    server.fails = lambda method, path: False
    done = annotate(40)
    assert done.returncode == 0 and json.loads(done.stdout)["annotated"] == 20
    assert count() == 40
