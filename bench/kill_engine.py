"""Kill the engine's process in the middle of a run: is anything lost, and what is done again?

    .venv/bin/python bench/kill_engine.py ../shared/data/pubmed-xml/hawc --kills 2

Runs once undisturbed and once with SIGKILL to vLLM's engine process, and compares the tables. Every
completion is counted where it is made, so that what was repeated is known. JSON on the last line.
"""

import argparse
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from kill import command, commits, stored, tree

from engine.backends.base import Completion
from engine.backends.vllm import VllmBackend


class CountingBackend(VllmBackend):
    """vLLM, with a line in the file $PUBMARK_COUNT for every completion."""

    async def generate(self, token_ids: Sequence[int], max_tokens: int) -> Completion:
        """See :class:`engine.backends.base.Backend`."""
        completion = await super().generate(token_ids, max_tokens)
        with Path(os.environ["PUBMARK_COUNT"]).open("a") as file:
            file.write(f"{os.getpid()}\n")
        return completion


def engine_processes(pid: int) -> list[int]:
    """vLLM's engine processes below a process."""
    names = {p: Path(f"/proc/{p}/comm").read_text() for p in tree(pid)}
    return [p for p, name in names.items() if name.startswith("VLLM")]


def run(source: str, target: Path, config: Path, kills: int) -> tuple[dict[str, int], list[int]]:
    """Annotate, killing the engine after a commit, ``kills`` times; the result and completions
    by engine."""
    count = target.with_suffix(".count")
    count.touch()
    folders = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
    env = os.environ | {"PUBMARK_COUNT": str(count), "PYTHONPATH": os.pathsep.join(folders)}
    process = subprocess.Popen(
        [*command(source, target, config), "--backend", "kill_engine:CountingBackend"],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    for _ in range(kills):
        before = commits(target)
        while commits(target) < max(2, before + 1) and process.poll() is None:
            time.sleep(0.1)
        for pid in engine_processes(process.pid):
            os.kill(pid, signal.SIGKILL)
        print("killed an engine", flush=True)
    stdout, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"exit code {process.returncode}")
    lines = count.read_text().split()
    return json.loads(stdout), [lines.count(pid) for pid in dict.fromkeys(lines)]


def main() -> None:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("--kills", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        config = root / "job.yaml"
        config.write_text("commit_every_seconds: 5\n")
        _, plain = run(options.source, root / "plain", config, 0)
        result, killed = run(options.source, root / "killed", config, options.kills)
        (pmids, first), (found, second) = stored(root / "plain"), stored(root / "killed")
    figures = {
        "citations": len(pmids),
        "same_pmids_once": found == pmids,
        "failed": result["failed"] + result["partial"],
        "mentions": {"undisturbed": len(first), "killed": len(second)},
        "mentions_that_differ": len(first ^ second),
        "completions": {"undisturbed": sum(plain), "killed_by_engine": killed},
        "repeated": sum(killed) - sum(plain),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
