"""Kill a run's whole process tree again and again, run it once more, and compare what is stored.

    .venv/bin/python bench/kill.py ../shared/data/pubmed-xml/hawc --kills 3

Two undisturbed runs give the noise of running twice; the killed one is held against the first.
Prints, for each pair, how many mentions are in one table only, and JSON on the last line.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from deltalake import DeltaTable

Mentions = set[tuple[int, int, int, str]]


def command(source: str, target: Path, config: Path) -> list[str]:
    return [
        sys.executable, "-c", "from jobs.cli import main; main()", "annotate", source,
        "--to", str(target), "--config", str(config), "--json",
    ]  # fmt: skip


def tree(pid: int) -> list[int]:
    with suppress(FileNotFoundError, ProcessLookupError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *(p for child in children for p in tree(int(child)))]
    return []


def kill_tree(pid: int) -> int:
    """SIGKILL a process and all its descendants; returns how many there were."""
    pids = tree(pid)
    for p in pids:
        with suppress(ProcessLookupError):
            os.kill(p, signal.SIGKILL)
    return len(pids)


def commits(target: Path) -> int:
    return len(list((target / "annotations/_delta_log").glob("*.json")))


def stored(target: Path) -> tuple[list[int], Mentions]:
    rows = DeltaTable(target / "annotations").to_pyarrow_table(columns=["pmid", "mentions"])
    mentions = {
        (row["pmid"], m["start"], m["end"], m["entity_type"])
        for row in rows.to_pylist()
        for m in row["mentions"]
    }
    return sorted(rows["pmid"].to_pylist()), mentions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--commit-every-seconds", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        config = root / "job.yaml"
        config.write_text(f"commit_every_seconds: {options.commit_every_seconds}\n")
        for name in ("first", "second"):
            subprocess.run(
                command(options.source, root / name, config),
                check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        killed = root / "killed"
        for number in range(options.kills):
            before = commits(killed)
            process = subprocess.Popen(
                command(options.source, killed, config),
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            # In the middle: after at least one commit of its own, at a random instant.
            while commits(killed) < before + 2 and process.poll() is None:
                time.sleep(0.1)
            time.sleep(random.uniform(0, options.commit_every_seconds))
            ended = process.poll()
            count = kill_tree(process.pid)
            process.wait()
            held = len(stored(killed)[0])
            print(f"kill {number + 1}: {count} processes, {held} citations committed"
                  + (f" (had ended by itself: {ended})" if ended is not None else ""))  # fmt: skip
        last = subprocess.run(
            command(options.source, killed, config),
            check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        result = json.loads(last.stdout)
        (pmids, first), (_, second), (found, third) = (
            stored(root / n) for n in ("first", "second", "killed")
        )
    figures = {
        "citations": len(pmids),
        "same_pmids_once": found == pmids and len(set(found)) == len(found),
        "settled_when_run_again": result["settled"],
        "mentions": {"first": len(first), "second": len(second), "killed": len(third)},
        "differ_first_second": len(first ^ second),
        "differ_first_killed": len(first ^ third),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
