"""A full disk, a read-only target, a server that errors: the cause is told, the table is whole, and
the same command goes on."""

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pyarrow.fs
import pytest
import requests
from click.testing import Result
from deltalake import DeltaTable
from flask import Flask, Response, request
from moto.server import ThreadedMotoServer
from typer.testing import CliRunner
from werkzeug.serving import make_server

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


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small file system of its own; skips where that is not allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount here")
    if done.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


@pytest.mark.usefixtures("ray_session")
def test_a_full_disk(tmp_path: Path, write_jsonl: Writer) -> None:
    source = write_jsonl(citations(300))
    with mounted(tmp_path / "disk", "size=192k") as disk:
        config = tmp_path / "job.yaml"
        config.write_text("commit_every_rows: 16\n")
        result = pubmark(source, disk / "t", "--config", str(config))
        assert result.exit_code == 1 and "No space left on device" in one_line(result.stderr)
        assert "Traceback" not in result.stderr
        done = pmids(disk / "t")
        assert 0 < len(done) < 300 and len(set(done)) == len(done)
        remount(disk, "size=64m")
        result = pubmark(source, disk / "t", "--config", str(config))
        assert result.exit_code == 0, result.stderr
        assert json.loads(result.stdout)["settled"] == len(done)
        assert pmids(disk / "t") == list(range(1, 301))


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
        patched.setattr("engine.layout.SubTreeFileSystem", FullFileSystem)
        result = pubmark(source, tmp_path / "t")
    assert result.exit_code == 1 and "No space left on device" in one_line(result.stderr)
    assert not list((tmp_path / "t/annotations").glob("*.parquet"))
    assert pubmark(source, tmp_path / "t").exit_code == 0 and pmids(tmp_path / "t") == [1, 2, 3]


# A server


class Server:
    """An S3 server that can be told to answer writes with an error."""

    def __init__(self) -> None:
        self._moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
        self._moto.start()
        host, port = self._moto.get_host_and_port()
        self.behind = f"http://{host}:{port}"
        self.fails: Callable[[str, str], bool] = lambda method, path: False
        self.failed = 0
        proxy = Flask("proxy")
        methods = ["GET", "PUT", "POST", "HEAD", "DELETE"]
        proxy.add_url_rule("/", "root", self._answer, methods=methods, defaults={"path": ""})
        proxy.add_url_rule("/<path:path>", "all", self._answer, methods=methods)
        self._server = make_server("127.0.0.1", 0, proxy, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def serve(self) -> None:
        self._server.serve_forever()

    def stop(self) -> None:
        self._server.shutdown()
        self._moto.stop()

    def _answer(self, path: str) -> Response:
        if self.fails(request.method, path):
            self.failed += 1
            text = "<Error><Code>AccessDenied</Code><Message>told to fail</Message></Error>"
            return Response(text, 403, content_type="application/xml")
        done = requests.request(
            request.method,
            f"{self.behind}/{path}",
            params=request.query_string.decode(),
            data=request.get_data(),
            headers={k: v for k, v in request.headers if k not in ("Host", "Transfer-Encoding")},
            timeout=600,
        )
        headers = {k: v for k, v in done.headers.items() if k.lower() != "transfer-encoding"}
        answer = Response(done.content, done.status_code, headers)
        answer.automatically_set_content_length = request.method != "HEAD"
        return answer


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    threading.Thread(target=made.serve, daemon=True).start()
    s3 = boto3.client(
        "s3", endpoint_url=made.behind, region_name="us-east-1",
        aws_access_key_id="test", aws_secret_access_key="test",
    )  # fmt: skip
    s3.create_bucket(Bucket="bucket")
    yield made
    made.stop()


@pytest.mark.parametrize("part", ["_delta_log", ".parquet"])
def test_a_server_that_errors(
    tmp_path: Path, write_jsonl: Writer, server: Server, part: str
) -> None:
    source = write_jsonl(citations(40))
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
             "s3://bucket/t", "--backend", FAKE, "--json", "--config", str(config), "--limit",
             str(limit)],
            cwd=ROOT, env=os.environ | options, capture_output=True, text=True,
        )  # fmt: skip

    def count() -> int:
        storage = {k: v for k, v in options.items() if k != "PYTHONPATH"}
        found = DeltaTable("s3://bucket/t/annotations", storage_options=storage)
        rows = found.to_pyarrow_table(columns=["pmid"])["pmid"].to_pylist()
        assert len(set(rows)) == len(rows)
        return len(rows)

    assert annotate(20).returncode == 0
    server.fails = lambda method, path: method == "PUT" and "t/annotations" in path and part in path
    failed = annotate(40)
    assert failed.returncode == 1 and server.failed, failed.stderr
    assert "told to fail" in one_line(failed.stderr) or "ACCESS_DENIED" in failed.stderr
    assert "Traceback" not in failed.stderr and "panicked" not in failed.stderr
    assert count() == 20
    server.fails = lambda method, path: False
    done = annotate(40)
    assert done.returncode == 0 and json.loads(done.stdout)["annotated"] == 20
    assert count() == 40
