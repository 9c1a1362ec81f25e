"""Runs that are killed at random instants, in short; kills.py does it at full length."""

import time
from contextlib import suppress
from pathlib import Path

import pytest
from kills import COUNTING, KINDS, Chaos, chaos, end, rows, tree, write_source

pytestmark = pytest.mark.chaos


def test_each_kind_of_kill_with_ray(tmp_path: Path) -> None:
    # Of this seed's kills the first two leave the run going: of three runs, two are killed.
    figures = chaos(tmp_path, 4, [4], citations=800, seconds=0.4, from_older=False)
    assert figures["wrong"] == []
    assert figures["kills"] == dict.fromkeys(KINDS, 1)
    assert figures["repeated_after_a_run_was_killed"] <= figures["uncommitted_when_killed"]


def test_a_table_with_older_rows(tmp_path: Path) -> None:
    figures = chaos(tmp_path, 3, [0], citations=300, seconds=0.05, ray=False)
    assert figures["wrong"] == [] and sum(figures["kills"].values()) == 3
    assert figures["repeated_after_a_run_was_killed"] <= figures["uncommitted_when_killed"]
    assert figures["orphans_left"] == 0


def test_a_worker_killed_while_ray_starts(tmp_path: Path) -> None:
    # Ray's default is to wait for such a worker for ever.
    write_source(tmp_path, 8)
    made = Chaos(tmp_path, sorted(tmp_path.glob("*.gz")), COUNTING, 0.0)
    process = made.annotate(tmp_path / "t", made.sources, tmp_path / "count")
    killed = False
    while process.poll() is None:
        for pid in [] if killed else tree(process.pid):
            with suppress(FileNotFoundError, ProcessLookupError):
                if b"--worker-id=" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    end(pid)
                    killed = True
                    break
        time.sleep(0.01)
    assert killed and process.returncode == 0, (tmp_path / "count/stderr").read_text()
    assert len(rows(tmp_path / "t")) == 7
