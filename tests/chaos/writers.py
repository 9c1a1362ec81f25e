"""Let two runs annotate into one table at once, again and again, while a reader looks on.

    python tests/chaos/writers.py --times 20

Both get the same files, or each files of its own and one that both have; the table has older texts
of a part, so that rows are new, replaced, patched and removed. Both must succeed, or say which run
is in the way, and then succeed when run again. The reader reads all of each version that it comes
to see: no PMID stands twice, every mention is where it says, nothing that was committed is lost,
each reading of a version gives the same, and so does SQL. The table equals the undisturbed one.
JSON on the last line; exit code 1 if anything is amiss.
"""

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from deltalake import DeltaTable
from kills import COUNTING, Chaos, committed_twice, comparable, rows, write_source

from engine.views.sql import open_views


class Reader(threading.Thread):
    """Reads the newest version of a table over and over, until told to stop."""

    def __init__(self, target: Path, may_go: set[int]):
        super().__init__()
        self._target, self._may_go = target, may_go
        self._stopped = threading.Event()
        self.seen: dict[int, dict[int, dict[str, Any]]] = {}
        self.reads = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        while not self._stopped.wait(0.05):
            if not (self._target / "annotations/_delta_log").exists():
                continue
            try:
                self._read()
            except Exception as e:
                self.wrong.append(f"{self._target.name}: the reader got {type(e).__name__}: {e}")

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def _read(self) -> None:
        version = DeltaTable(self._target / "annotations").version()
        found = rows(self._target, version)
        self.reads += 1
        wrong = []
        if any(
            row["text"][m["start"] : m["end"]] != m["text"]
            for row in found.values()
            for m in row["mentions"]
        ):
            wrong.append("a mention is not where it says")
        before = self.seen[max(self.seen)].keys() if self.seen else set()
        if lost := before - found.keys() - self._may_go:
            wrong.append(f"lost {sorted(lost)[:5]}")
        if self.seen.setdefault(version, found) != found:
            wrong.append("differs when read again")
        with open_views(str(self._target)) as db:
            query = "SELECT count(*), count(DISTINCT pmid) FROM annotations"
            ((count, distinct),) = db.execute(query).fetchall()
        if count != distinct or count < len(found) - len(self._may_go):
            wrong.append(f"SQL counts {count} rows of {distinct} PMIDs, {len(found)} before")
        self.wrong += [f"{self._target.name}, version {version}: {what}" for what in wrong]


def writers(
    folder: Path, times: int, citations: int = 400, ray: bool = False, seed: int = 0
) -> dict[str, Any]:
    """Run everything. Returns the figures; ``wrong`` is empty if all is well."""
    (folder / "source").mkdir()
    before, sources = write_source(folder / "source", citations)
    made = Chaos(folder, sources, COUNTING, 0.0, ray=ray)
    made.start = made.undisturbed("start", before)
    expected = rows(made.undisturbed("undisturbed"))
    gone = rows(made.start).keys() - expected.keys()
    made.seconds = 0.05
    figures: Counter[str] = Counter()
    wrong: list[str] = []
    for number in range(times):
        chances = random.Random(seed + number)
        target = made.fresh(f"pair{number}")
        reader = Reader(target, set(gone))
        reader.start()
        if number % 2:
            given = [sources, sources]
        else:
            mixed = chances.sample(sources[1:-1], len(sources) - 2)
            given = [[*mixed[:2], sources[-1]], [*mixed[1:], sources[-1]]]
        running = []
        for i, files in enumerate(given):
            running.append(made.annotate(target, files, folder / f"pair{number}.{i}"))
            time.sleep(chances.choice([0, 0, 0.3, 1]))
        for i, process in enumerate(running):
            code = process.wait()
            figures[f"exit_{code}"] += 1
            said = (folder / f"pair{number}.{i}/stderr").read_text()
            if code and not ("by another run" in said or "other writers" in said):
                wrong.append(f"pair {number}: exit code {code}\n{said[-2000:]}")
            figures["overtaken"] += said.count("was faster") + said.count("planning again")
            if code:
                made.annotate(target, given[i], folder / f"pair{number}.{i}.again").wait()
        reader.stop()
        wrong += dict.fromkeys(reader.wrong)
        found = rows(target)
        same = found.keys() == expected.keys() and all(
            comparable(found[p], False) == comparable(expected[p], False) for p in found
        )
        if not same:
            wrong.append(f"pair {number}: the table is not that of one run")
        if twice := committed_twice(target):
            wrong.append(f"pair {number}: committed twice: {twice[:5]}")
        figures["both_committed"] += len({r["run_id"] for r in found.values()}) > 2
        figures["pairs"] += 1
        figures["versions"] += DeltaTable(target / "annotations").version() + 1
        figures["versions_read"] += len(reader.seen)
        figures["reads"] += reader.reads
        print(f"pair {number}: {len(reader.seen)} versions read {reader.reads} times", flush=True)
    return {"citations": len(expected)} | dict(sorted(figures.items())) | {"wrong": wrong}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--citations", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ray", action="store_true", help="Each run with a cluster of its own.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = writers(Path(folder), options.times, options.citations, options.ray, options.seed)
    for line in figures["wrong"]:
        print(line)
    print(json.dumps(figures))
    sys.exit(bool(figures["wrong"]))


if __name__ == "__main__":
    main()
