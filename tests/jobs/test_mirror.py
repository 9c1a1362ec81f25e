"""``pubmark mirror``: the command line, signals and death, and S3."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import Result
from moto.server import ThreadedMotoServer
from nlm_server import ALWAYS, Server, drop, md5_of, nlm_server, serve, slow, status
from typer.testing import CliRunner

from engine.sources.shards import find_shards
from jobs.cli import app

ROOT = Path(__file__).parents[2]
NAMES = [f"pubmed26n{n:04}.xml.gz" for n in range(1, 4)]
BODIES = {name: random.Random(name).randbytes(200_000) for name in NAMES}
FOLDER = "/pubmed/baseline/"
QUICK = "backoff_seconds: 0.01\nretries: 1\n"


@pytest.fixture
def server() -> Iterator[Server]:
    with nlm_server() as started:
        for name, body in BODIES.items():
            started.publish("baseline", name, body)
        yield started


@pytest.fixture
def quick(tmp_path: Path) -> str:
    path = tmp_path / "quick.yaml"
    path.write_text(QUICK)
    return str(path)


def pubmark(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["mirror", *map(str, arguments)])


def whole(folder: Path) -> list[str]:
    """Names of NLM's that stand for the files as published; any other content is a failure."""
    files = sorted(folder.glob("pubmed*"))
    for path in files:
        name = path.name.removesuffix(".md5")
        body = BODIES[name]
        said = f"MD5({name})= {md5_of(body)}\n".encode()
        assert path.read_bytes() == (said if path.suffix == ".md5" else body), path
    return [path.name for path in files if path.suffix == ".gz"]


def test_json_is_one_object(server: Server, tmp_path: Path) -> None:
    command = ["baseline", "--to", tmp_path / "to", "--from", server.url, "--json"]
    result = pubmark(*command)
    assert result.exit_code == 0
    said = json.loads(result.stdout)
    assert said.pop("seconds") > 0
    assert said == {
        "listed": 3, "settled": 0, "to_fetch": 3, "fetched": 3, "failed": 0, "bytes": 600_000,
        "failures": {},
    }  # fmt: skip
    assert whole(tmp_path / "to") == NAMES
    again = json.loads(pubmark(*command).stdout)
    assert (again["settled"], again["fetched"], again["bytes"]) == (3, 0, 0)


def test_what_is_mirrored_is_a_source(server: Server, tmp_path: Path) -> None:
    server.publish("updatefiles", "pubmed26n0004.xml.gz", b"x")
    for kind in ("updates", "baseline"):
        assert pubmark(kind, "--to", tmp_path / "to", "--from", server.url).exit_code == 0
    names = [s.name for s in find_shards([str(tmp_path / "to")])]
    assert names == [*NAMES, "pubmed26n0004.xml.gz"]


def test_without_json_a_person_reads_it(server: Server, tmp_path: Path) -> None:
    command = ["baseline", "--to", tmp_path / "to", "--from", server.url]
    dry = pubmark(*command, "--dry-run").stdout
    assert dry == "3 files listed, 0 there already, 3 to fetch, about 600.0 kB. "\
        "Nothing was written.\n"  # fmt: skip
    out = pubmark(*command, "--limit", "2").stdout
    assert out.startswith(f"3 files listed, 0 there already, 2 fetched to {tmp_path}/to: 400.0 kB")
    assert "1 fetched" in pubmark(*command, "--connections", "1").stdout


def test_a_bad_file_is_named_and_exit_3(server: Server, tmp_path: Path, quick: str) -> None:
    server.faults[f"{FOLDER}{NAMES[1]}.md5"] = [ALWAYS(serve(b"0" * 32))]
    command = ["baseline", "--to", tmp_path / "to", "--from", server.url, "--config", quick]
    result = pubmark(*command)
    assert result.exit_code == 3
    assert f"1 failed, to be tried again by the same command:\n  {NAMES[1]}: " in result.stdout
    said = json.loads(pubmark(*command, "--json").stdout)
    assert (said["settled"], said["failed"], list(said["failures"])) == (2, 1, [NAMES[1]])
    assert whole(tmp_path / "to") == [NAMES[0], NAMES[2]]


def test_a_server_in_trouble_is_exit_1(server: Server, tmp_path: Path, quick: str) -> None:
    server.faults[FOLDER] = [ALWAYS(status(503))]
    command = ["baseline", "--to", tmp_path / "to", "--from", server.url, "--config", quick]
    result = pubmark(*command)
    assert result.exit_code == 1 and "HTTP 503" in result.stderr and not result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["baseline"], "--to: is required"),
        (["--to", "x"], "baseline|updates: is required"),
        (["deltas", "--to", "x"], "'deltas' is not one of"),
        (["updates", "--to", "x", "--connections", "50"], "less than or equal to 10"),
        (["updates", "--to", "x", "--from", "ftp://ftp.ncbi.nlm.nih.gov/pubmed"], "https://"),
        (["updates", "--to", "x", "--from", "nowhere"], "expected an http"),
        (["updates", "--to", "gopher://x", "--from", "http://127.0.0.1:9"], "kind of URI"),
    ],
)
def test_wrong_usage_is_exit_2(arguments: list[str], said: str) -> None:
    result = pubmark(*arguments)
    assert result.exit_code == 2 and said in " ".join(result.stderr.split())


def test_no_such_folder_is_exit_2(server: Server, tmp_path: Path) -> None:
    result = pubmark("updates", "--to", tmp_path / "to", "--from", server.url)
    assert result.exit_code == 2 and "HTTP 404" in result.stderr and not (tmp_path / "to").exists()


def test_nothing_heavy_is_loaded(server: Server, tmp_path: Path) -> None:
    code = (
        "import sys; from typer.testing import CliRunner; import jobs.cli\n"
        f"a = ['mirror', 'baseline', '--to', {str(tmp_path / 'to')!r}, '--from', {server.url!r}]\n"
        "assert CliRunner().invoke(jobs.cli.app, a).exit_code == 0\n"
        "print({'ray', 'vllm', 'torch', 'deltalake', 'duckdb'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


# A process of its own


def start(*arguments: str | Path, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from jobs.cli import main; main()", "mirror", *arguments],
        cwd=ROOT, env=os.environ | env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for_a_part(folder: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not any(p.stat().st_size for p in folder.glob(f".{NAMES[1]}.*.part")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_who_is_interrupted_leaves_nothing_half_and_goes_on(
    server: Server, tmp_path: Path, number: signal.Signals
) -> None:
    to = tmp_path / "to"
    for name in NAMES[1:]:
        server.faults[FOLDER + name] = [slow(5000, 0.05)]
    command = ["baseline", "--to", to, "--from", server.url, "--json", "--connections", "3"]
    process = start(*command)
    wait_for_a_part(to, process)
    sent = time.monotonic()
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=120)
    if number == signal.SIGKILL:
        assert process.returncode == -9
    else:
        assert process.returncode == 130, stderr
        assert json.loads(stdout)["listed"] == 3 and time.monotonic() - sent < 20
        assert "Traceback" not in stderr
    assert set(whole(to)) <= {NAMES[0]}
    server.requests.clear()
    said = json.loads(pubmark(*command).stdout)
    assert said["failed"] == 0 and said["settled"] + said["fetched"] == 3
    assert said["bytes"] < 600_000 and any("Range" in r.headers for r in server.requests)
    assert whole(to) == NAMES and not list(to.glob(".*.part"))


def test_a_server_that_stalls_does_not_hold_up_an_interrupt(server: Server, tmp_path: Path) -> None:
    for name in NAMES:
        server.faults[FOLDER + name] = [slow(1000, 60)]
    process = start("baseline", "--to", tmp_path / "to", "--from", server.url)
    wait_for_a_part(tmp_path / "to", process)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert "interrupted; the same command goes on from there" in stdout


def test_a_full_disk_is_exit_1_and_gone_on_with(server: Server, tmp_path: Path) -> None:
    to = tmp_path / "to"
    command = ["baseline", "--to", str(to), "--from", server.url, "--json"]
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))\n"
        "from jobs.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "mirror", *command], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1 and "File too large" in done.stderr, done.stderr
    assert "the same command goes on from there" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr and whole(to) == []
    said = json.loads(pubmark(*command).stdout)
    assert said["fetched"] == 3 and said["bytes"] < 600_000 and whole(to) == NAMES


# S3


@pytest.fixture(scope="module")
def s3() -> Iterator[tuple[Any, dict[str, str]]]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1",
        aws_access_key_id="test", aws_secret_access_key="test",
    )  # fmt: skip
    client.create_bucket(Bucket="bucket")
    yield (
        client,
        {
            "AWS_ENDPOINT_URL": url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        },
    )
    server.stop()


def test_to_s3(server: Server, s3: tuple[Any, dict[str, str]], tmp_path: Path, quick: str) -> None:
    client, env = s3
    env = env | {"PUBMARK_CACHE": str(tmp_path / "cache")}

    def mirror(*options: str) -> tuple[int, dict[str, Any]]:
        process = start(
            "baseline", "--to", "s3://bucket/pubmed", "--from", server.url, "--json",
            "--config", quick, *options, **env,
        )  # fmt: skip
        stdout, stderr = process.communicate(timeout=120)
        assert stdout, stderr
        return process.returncode, json.loads(stdout)

    def stored() -> dict[str, bytes]:
        found = client.list_objects_v2(Bucket="bucket")["Contents"]
        keys = [o["Key"] for o in found if "pubmed2" in o["Key"]]
        return {k: client.get_object(Bucket="bucket", Key=k)["Body"].read() for k in keys}

    def expected(*names: str) -> dict[str, bytes]:
        sums = {f"pubmed/{n}.md5": server.files[f"{FOLDER}{n}.md5"] for n in names}
        return {f"pubmed/{n}": BODIES[n] for n in names} | sums

    server.faults[FOLDER + NAMES[1]] = [ALWAYS(drop(100))]
    code, said = mirror()
    assert (code, said["fetched"], said["failed"]) == (3, 2, 1)
    assert stored() == expected(NAMES[0], NAMES[2])
    server.faults.clear()
    code, said = mirror()
    assert (code, said["settled"], said["fetched"]) == (0, 2, 1)
    assert said["bytes"] < 200_000  # gone on with, from the cache
    assert stored() == expected(*NAMES)
    client.put_object(Bucket="bucket", Key=f"pubmed/{NAMES[2]}", Body=bytes(200_000))
    code, said = mirror("--verify")
    assert (code, said["settled"], said["fetched"]) == (0, 2, 1)
    assert stored() == expected(*NAMES)
    assert not list((tmp_path / "cache").rglob("*.part"))


def test_a_bucket_that_is_not_there_is_exit_2(
    server: Server, s3: tuple[Any, dict[str, str]], tmp_path: Path
) -> None:
    env = s3[1] | {"PUBMARK_CACHE": str(tmp_path / "cache")}
    process = start("baseline", "--to", "s3://nowhere/pubmed", "--from", server.url, **env)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 2 and "s3://nowhere/pubmed" in stderr, stderr
