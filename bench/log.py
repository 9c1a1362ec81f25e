"""How history and --as-of grow with the commits that a table's log has.

    python bench/log.py --commits 40000 --runs 700

makes a table whose log has so many commits (copies of one, with their times a minute apart, nothing
in them) of so many runs, and prints seconds and commits read: for the last 20 runs, for a time in
the middle, and by delta-rs's own ``history``, which reads all.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from engine.tables import commits
from engine.tables.store import Store
from engine.views.history import past_runs

END = datetime(2026, 6, 1, tzinfo=UTC)


def make(root: str, commits: int, runs: int) -> Store:
    """A table of empty commits, of which each run has as many."""
    store = Store(root)
    store.create()
    folder = Path(root) / "annotations/_delta_log"
    started = {}
    for version in range(1, commits + 1):
        at = END - timedelta(minutes=commits - version)
        run_id = f"run{(version - 1) * runs // commits:06}"
        started.setdefault(run_id, at)
        notes = {
            "timestamp": round(at.timestamp() * 1000), "operation": "WRITE",
            "pubmark.run_id": run_id, "pubmark.new": "1",
        }  # fmt: skip
        (folder / f"{version:020}.json").write_text(json.dumps({"commitInfo": notes}) + "\n")
    store.append("runs", [{"run_id": r, "started_at": at} for r, at in started.items()])
    store.load().create_checkpoint()
    return store


def timed(step: Callable[[], Any], read: list[int]) -> dict[str, float]:
    """Seconds of a step, and how many commits it read."""
    read.clear()
    began = time.perf_counter()
    step()
    return {"seconds": round(time.perf_counter() - began, 3), "commits_read": len(read)}


def main() -> None:
    """Make the table and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commits", type=int, default=40_000)
    parser.add_argument("--runs", type=int, default=700)
    options = parser.parse_args()
    read: list[int] = []
    original = commits._read
    commits._read = lambda fs, version: read.append(version) or original(fs, version)  # type: ignore[func-returns-value]
    with tempfile.TemporaryDirectory() as folder:
        store = make(f"{folder}/t", options.commits, options.runs)
        table = store.load()
        middle = END - timedelta(minutes=options.commits // 2)
        figures = {
            "history of 20 runs": timed(lambda: past_runs(store, 20), read),
            "history of all runs": timed(lambda: past_runs(store), read),
            "version of a time": timed(lambda: commits.version_at(table, middle), read),
            "delta-rs's history": timed(table.history, read) | {"commits_read": options.commits},
        }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
