"""One turn at a time, and what a dead one leaves."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.refresh.lock import Held, turn
from engine.runs.run_id import new_run_id


def test_a_turn_has_the_tables_to_itself(tmp_path: Path) -> None:
    with (
        turn(str(tmp_path / "t"), "mine"),
        pytest.raises(Held, match=rf"run mine, since 2.*process {os.getpid()} on"),
        turn(str(tmp_path / "t"), "other"),
    ):
        pass
    with turn(str(tmp_path / "t"), "next"):
        pass
    assert new_run_id() != new_run_id()


def test_a_killed_turn_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, time; from engine.refresh.lock import turn\n"
        "with turn(sys.argv[1], 'killed'): print('in', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "in\n"
    with pytest.raises(Held, match="run killed"), turn(str(tmp_path), "x"):
        pass
    process.kill()
    process.wait()
    with turn(str(tmp_path), "x"):
        pass


def test_in_a_store_a_turn_that_is_not_renewed_is_dead() -> None:
    import fsspec

    fs, root = fsspec.filesystem("memory"), f"memory://turns{os.getpid()}"
    place = f"{root.removeprefix('memory:/')}/.refresh.lock"
    with turn(root, "mine"):
        assert json.loads(fs.cat_file(place))["run_id"] == "mine"
    assert not fs.exists(place)
    other = {"run_id": "theirs", "host": "elsewhere", "pid": 1, "since": "2026"}
    fs.pipe_file(place, json.dumps(other | {"renewed": time.time()}).encode())
    with pytest.raises(Held, match="run theirs"), turn(root, "mine"):
        pass
    fs.pipe_file(place, json.dumps(other | {"renewed": time.time() - 1000}).encode())
    with turn(root, "mine"):
        pass
