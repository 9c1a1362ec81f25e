"""Source, checkpoint and table on an S3-compatible server, by the same command."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import requests
from moto.server import ThreadedMotoServer

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "jobs/sample/pubmed_sample.xml"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What a user of such a server sets, with a bucket that holds the sample and nano."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    # All of moto's servers in a process hold the same buckets: those of another test go.
    requests.post(f"{url}/moto-api/reset", timeout=60).raise_for_status()
    credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    s3 = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1",
        aws_access_key_id="test", aws_secret_access_key="test",
    )  # fmt: skip
    s3.create_bucket(Bucket="bucket")
    s3.upload_file(str(SAMPLE), "bucket", "pubmed/sample.xml")
    for path in (ROOT / "checkpoints/nano").iterdir():
        s3.upload_file(str(path), "bucket", f"nano/{path.name}")
    yield (
        os.environ
        | credentials
        | {
            "AWS_ENDPOINT_URL": url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "PUBMARK_CACHE": str(tmp_path_factory.mktemp("cache")),
            "PYTHONPATH": str(ROOT / "tests/support"),
        }
    )
    server.stop()


def pubmark(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", "from jobs.cli import main; main()", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_everything_on_s3(environment: dict[str, str]) -> None:
    command = [
        "annotate", "s3://bucket/pubmed/", "--to", "s3://bucket/out", "--json",
        "--checkpoint", "s3://bucket/nano", "--backend", "fake_backend:FakeBackend",
    ]  # fmt: skip
    first = json.loads(pubmark(environment, *command))
    assert first["annotated"] == 49 and first["mentions"] > 100
    again = json.loads(pubmark(environment, *command))
    assert (again["annotated"], again["settled"]) == (0, 49)
    shown = json.loads(
        pubmark(environment, "show", "99000002", "--from", "s3://bucket/out", "--json")
    )
    assert shown["source"] == "sample.xml"
    count = pubmark(
        environment, "sql", "SELECT count(*) AS n FROM mentions", "--from", "s3://bucket/out"
    )
    assert count == f"n\n{first['mentions']}\n"
