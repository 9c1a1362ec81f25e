"""A Ray cluster that is not there: an error with its address, soon, and Ctrl-C ends the wait."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.runs import head
from engine.runs.cluster import connected
from engine.runs.head import ask_head, wait_for_head
from schemas.errors import JobError

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("CONNECT_S", 1.0), ("ANSWER_S", 2.0), ("_TRY_S", 1.0)):
        monkeypatch.setattr(head, name, seconds)
    monkeypatch.setattr(head, "_PAUSE_S", 0.2)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(60)
        yield made


def address_of(listening: socket.socket) -> str:
    return f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_where_nothing_listens(scheme: str, free_port: int) -> None:
    address = f"{scheme}127.0.0.1:{free_port}"
    began = time.monotonic()
    with pytest.raises(
        JobError, match=f"no Ray cluster at {address} .*connection refused, in . tr"
    ):
        wait_for_head(address)
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70 + ".example"])
def test_a_host_name_that_does_not_resolve(host: str) -> None:
    with pytest.raises(JobError, match=f"the host name {host} does not resolve"):
        wait_for_head(f"{host}:6379")


@pytest.mark.parametrize(
    "address",
    ["10.0.0.5", "10.0.0.5:port", ":6379", "10.0.0.5:", "http://10.0.0.5:8265", "[::1", "x:0"],
)
def test_what_is_no_address_of_a_head(address: str) -> None:
    with pytest.raises(JobError, match="expected RAY_ADDRESS to be host:port"):
        wait_for_head(address)


def test_a_head_that_comes_up_late_is_waited_for(free_port: int) -> None:
    late = (
        "import socket, time; time.sleep(0.4); s = socket.create_server(('127.0.0.1', "
        f"{free_port})); s.accept(); time.sleep(5)"
    )
    began = time.monotonic()
    with subprocess.Popen([sys.executable, "-c", late]) as process:
        wait_for_head(f"127.0.0.1:{free_port}")
        assert time.monotonic() - began > 0.4
        process.kill()


def test_what_listens_there_but_is_no_head(listener: socket.socket) -> None:
    address = address_of(listener)
    wait_for_head(address)
    began = time.monotonic()
    with pytest.raises(JobError, match=f"{address} .* did not answer as Ray's head within 2 s"):
        ask_head(address)
    assert time.monotonic() - began < 15


def test_a_cluster_that_is_named_is_looked_for(
    monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port}")
    monkeypatch.setattr("engine.runs.cluster.ray.is_initialized", lambda: False)
    with pytest.raises(JobError, match=f"127.0.0.1:{free_port}"), connected():
        pass


@pytest.mark.parametrize("listens", [False, True], ids=["nothing there", "something there"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_the_wait(
    tmp_path: Path,
    write_jsonl: Callable[..., str],
    free_port: int,
    listener: socket.socket,
    listens: bool,
    number: signal.Signals,
) -> None:
    address = address_of(listener) if listens else f"127.0.0.1:{free_port}"
    command = [sys.executable, "-m", "jobs.cli", "annotate", write_jsonl([(1, "Aspirin", "")])]
    process = subprocess.Popen(
        [*command, "--to", str(tmp_path / "t"), "--backend", "fake_backend:FakeBackend"],
        env=os.environ
        | {"RAY_ADDRESS": address, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests/support'}"},
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    said = ""
    if listens:
        listener.accept()  # of the first look
        listener.accept()  # of Ray
    else:
        said = process.stderr.readline()
        assert f"Ray's head at {address}: connection refused; trying for 40 s" in said
    began = time.monotonic()
    process.send_signal(number)
    rest = process.communicate(timeout=120)[1]
    assert process.returncode == 130, said + rest
    assert time.monotonic() - began < 15
    assert "interrupted" in rest and not (tmp_path / "t").exists()
