"""Annotate on a cluster of several nodes, of which one is killed and one joins on the way.

    python tests/chaos/nodes.py --citations 2000
    python tests/chaos/nodes.py --citations 60 --backend vllm

Each node is a raylet of its own, with its workers, on this machine: a head that runs no engine, and
three with an engine each. Three runs over the same files:

- undisturbed;
- one node killed by SIGKILL after a third of the completions, with all its processes, and another
  one started in its place;
- the driver killed after a third of the completions, and the same command given again.

The tables must be equal, but for run ids and times. Prints for each run the completions that each
node made, and how many were made again; JSON on the last line; exit code 1 if anything is amiss.
"""

import argparse
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kills import ROOT, comparable, end, rows, tree, write_source

COUNT = "PUBMARK_CHAOS_COUNT"
NODE = "PUBMARK_CHAOS_NODE"
ENGINES = 3


class Cluster:
    """A head and nodes, each a process with all that it starts."""

    def __init__(self, folder: Path, seconds: float):
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        path = [str(ROOT), str(ROOT / "tests/support"), str(ROOT / "tests/chaos")]
        self.env = os.environ | {
            "PYTHONPATH": os.pathsep.join(path),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "HF_HUB_OFFLINE": "1",
            "PUBMARK_FAKE_SECONDS": str(seconds),
            COUNT: str(folder / "count"),
        }
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        port = self.address.rpartition(":")[2]
        self._start("head", "--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false")

    def add(self, name: str, without: Path | None = None) -> None:
        """Start a node with room for one engine, and one core for other tasks. To it, the folder
        ``without`` is empty: it has a mount of its own there."""
        hide = f"mount -t tmpfs tmpfs '{without}' && exec \"$@\""
        alone = ["unshare", "--mount", "sh", "-c", hide, "sh"] if without else []
        self._start(name, f"--address={self.address}", "--num-cpus=2", before=alone)

    def kill(self, name: str) -> None:
        """End a node and all its processes at once, without a word."""
        for pid in tree(self._nodes.pop(name).pid):
            end(pid)

    def stop(self) -> None:
        for name in list(self._nodes):
            self.kill(name)

    def _start(self, name: str, *told: str, before: Sequence[str] = ()) -> None:
        ray, said = Path(sys.executable).with_name("ray"), self._folder / f"{name}.log"
        with said.open("wb") as log:
            self._nodes[name] = subprocess.Popen(
                [*before, ray, "start", "--block", "--object-store-memory=200000000", *told],
                env=self.env | {NODE: name}, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while "Ray runtime started" not in said.read_text():
            if time.monotonic() > deadline:
                raise SystemExit(f"{name} did not start:\n{said.read_text()[-2000:]}")
            time.sleep(0.1)


class Trial:
    """Runs over the same files, on one cluster."""

    def __init__(self, folder: Path, cluster: Cluster, backend: str, citations: int):
        self._folder, self._cluster, self._backend = folder, cluster, backend
        _, self._sources = write_source(folder, citations)
        self.wrong: list[str] = []
        self.figures: dict[str, Any] = {}
        self._expected: dict[int, dict[str, Any]] = {}
        self._every = 0

    def run(self, name: str, at_a_third: Any = None) -> None:
        """Annotate into a table of its own; ``at_a_third`` gets the driver's process after a third
        of the completions, and may give another one in its place."""
        target, count = self._folder / name, Path(self._cluster.env[COUNT])
        for old in count.glob("*/*"):
            old.unlink()
        began = time.monotonic()
        driver = self.start(target)
        if at_a_third:
            while driver.poll() is None and not self._is_under_way(target):
                time.sleep(0.05)
            if driver.poll() is None:
                driver = at_a_third(driver, target) or driver
            else:
                self.wrong.append(f"{name}: ended before anything was killed")
        if code := driver.wait():
            self.wrong.append(
                f"{name}: exit code {code}\n{(target.parent / f'{name}.err').read_text()[-2000:]}"
            )
            return
        found = {p: comparable(r, real=self._backend == "vllm") for p, r in rows(target).items()}
        if not self._expected:
            self._expected = found
        elif found != self._expected:
            self.wrong.append(f"{name}: another table than the undisturbed one")
        made = {
            node.name: [line for file in node.iterdir() for line in file.read_text().splitlines()]
            for node in sorted(count.iterdir())
        }
        every = Counter(line for lines in made.values() for line in lines)
        self._every = self._every or len(every)
        self.figures[name] = {
            "seconds": round(time.monotonic() - began, 1),
            "citations": len(found),
            "completions": {node: len(lines) for node, lines in made.items() if lines},
            "again": sum(every.values()) - len(every),
        }
        print(f"{name}: {self.figures[name]}", flush=True)

    def start(self, target: Path) -> "subprocess.Popen[bytes]":
        """Start a driver."""
        with (target.parent / f"{target.name}.err").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", "from jobs.cli import main; main()", "annotate",
                 *map(str, self._sources), "--to", str(target), "--backend", self._backend,
                 "--engines", str(ENGINES), "--commit-every-seconds", "1"],
                env=self._cluster.env | {"RAY_ADDRESS": self._cluster.address, NODE: "driver"},
                cwd=self._folder, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def kill_a_node(self, driver: Any, target: Path) -> None:
        self._cluster.kill("node2")
        self._cluster.add("node4")

    def kill_the_driver(self, driver: Any, target: Path) -> Any:
        for pid in tree(driver.pid):
            end(pid)
        driver.wait()
        return self.start(target)

    def _is_under_way(self, target: Path) -> bool:
        """Whether a commit has stored rows, and a third of all completions are made."""
        stored = any((target / "annotations").glob("*.parquet"))
        if self._backend == "vllm":  # which counts nothing
            return stored
        made = sum(f.read_text().count("\n") for f in Path(self._cluster.env[COUNT]).glob("*/*"))
        return stored and made > self._every / 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--citations", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=0.5, help="a prompt of the fake backend")
    parser.add_argument("--backend", default="counting_backend:NodeBackend")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "count").mkdir()
        cluster = Cluster(Path(folder), options.seconds)
        trial = Trial(Path(folder), cluster, options.backend, options.citations)
        try:
            cluster.start()
            for name in ("node1", "node2", "node3"):
                cluster.add(name)
            trial.run("undisturbed")
            trial.run("node-killed", trial.kill_a_node)
            trial.run("driver-killed", trial.kill_the_driver)
        finally:
            cluster.stop()
    for line in trial.wrong:
        print(line, file=sys.stderr)
    print(json.dumps({"runs": trial.figures, "wrong": trial.wrong}))
    sys.exit(bool(trial.wrong))


if __name__ == "__main__":
    main()
