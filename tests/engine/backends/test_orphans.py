"""What an engine has started ends with it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = """
import multiprocessing, os, signal, sys, time
from engine.backends.orphans import end_children, end_with_this_process

if __name__ == "__main__":
    guard = end_with_this_process()
    child = multiprocessing.get_context(sys.argv[1]).Process(target=time.sleep, args=(100,))
    child.start()
    other = multiprocessing.get_context(sys.argv[1]).Process(target=time.sleep, args=(100,))
    other.start()
    print(child.pid, other.pid, flush=True)
    if sys.argv[2] == "exit":
        end_children()
        os._exit(1)
    time.sleep(100)
"""


def alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
    return "State:\tZ" not in status


@pytest.mark.parametrize(
    ("method", "end"), [("spawn", "kill"), ("fork", "exit"), ("spawn", "exit")]
)
def test_children_end_with_their_engine(tmp_path: Path, method: str, end: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    engine = subprocess.Popen(
        [sys.executable, str(program), method, end], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert engine.stdout is not None
    children = [int(pid) for pid in engine.stdout.readline().split()]
    assert len(children) == 2
    if end == "kill":
        assert all(map(alive, children))
        engine.send_signal(signal.SIGKILL)
    engine.wait()
    deadline = time.monotonic() + 20
    while any(map(alive, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, children))
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()
