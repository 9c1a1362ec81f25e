"""Runs that are killed at random instants, in short; kills.py does it at full length."""

from pathlib import Path

from kills import KINDS, chaos


def test_each_kind_of_kill_with_ray(tmp_path: Path) -> None:
    # Of this seed's kills the first two leave the run going: of three runs, two are killed.
    figures = chaos(tmp_path, 4, [4], citations=1000, seconds=0.4, from_older=False)
    assert figures["wrong"] == []
    assert figures["kills"] == dict.fromkeys(KINDS, 1)
    assert figures["repeated_after_a_run_was_killed"] <= figures["uncommitted_when_killed"]


def test_a_table_with_older_rows(tmp_path: Path) -> None:
    figures = chaos(tmp_path, 5, [0], citations=400, seconds=0.05, ray=False)
    assert figures["wrong"] == [] and sum(figures["kills"].values()) == 5
    assert figures["repeated_after_a_run_was_killed"] <= figures["uncommitted_when_killed"]
    assert figures["orphans_left"] == 0
