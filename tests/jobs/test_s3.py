"""Source, checkpoint and table on an S3-compatible server, by the same command."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from s3_server import BUCKET, s3_server
from typer.testing import CliRunner

from engine.runs import preflight
from engine.storage.filesystem import filesystem
from engine.tables.probe import try_writing
from jobs.cli import app

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "jobs/sample/pubmed_sample.xml"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What a user of such a server sets, with a bucket that holds the sample and nano."""
    with s3_server(tmp_path_factory.mktemp("server")) as server:
        server.client.upload_file(str(SAMPLE), BUCKET, "pubmed/sample.xml")
        for path in (ROOT / "checkpoints/nano").iterdir():
            server.client.upload_file(str(path), BUCKET, f"nano/{path.name}")
        yield server.environment | {
            "PUBMARK_CACHE": str(tmp_path_factory.mktemp("cache")),
            "PYTHONPATH": str(ROOT / "tests/support"),
        }


def annotate(environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    """In a process of its own, whose Ray workers have the environment too."""
    done = subprocess.run(
        [sys.executable, "-c", "from jobs.cli import main; main()", "annotate", *arguments],
        cwd=ROOT, env=os.environ | environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.slow
def test_everything_on_s3(environment: dict[str, str]) -> None:
    first = annotate(
        environment, "s3://bucket/pubmed/", "--to", "s3://bucket/out", "--json",
        "--checkpoint", "s3://bucket/nano", "--backend", "fake_backend:FakeBackend",
    )  # fmt: skip
    assert first["annotated"] == 49 and first["mentions"] > 100

    def read(*arguments: str) -> str:
        command = [*arguments, "--from", "s3://bucket/out"]
        done = CliRunner().invoke(app, command, env=environment)
        assert done.exit_code == 0, done.stderr
        return done.stdout

    assert json.loads(read("show", "99000002", "--json"))["source"] == "sample.xml"
    told = json.loads(read("status", "--json"))
    assert (told["rows"], told["under_way"]) == (49, []) and told["ended"]["annotated"] == 49
    count = read("sql", "SELECT count(*) AS n FROM mentions")
    assert count == f"n\n{first['mentions']}\n"


def test_a_bucket_is_tried_and_left_as_it_was(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    fs, _ = filesystem("s3://bucket/new")
    before = fs.find("bucket")
    assert "commits are conditional, clock within" in try_writing("s3://bucket/new")
    assert fs.find("bucket") == before
    assert preflight.source(["s3://bucket/pubmed/"]) == "1 file, sample.xml"
    absent = preflight.examine("writing", lambda: try_writing("s3://absent/new"))
    assert not absent.ok and "absent" in absent.said
