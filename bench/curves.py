"""Is a training run the same when it is killed, and when two workers share it?

    .venv/bin/python bench/curves.py examples/NCBI-disease-pubtator.sentences.parquet --steps 200

Trains a small model on the CPU, in float32: undisturbed; with two workers (gloo), the same batches
shared; so, and the weights shared out too (FSDP); and killed with SIGKILL (the whole process tree)
three times and started again.
Prints how far the curves of the loss are apart at most, and JSON on the last line.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from kill import kill_tree

TASK = {
    "entity_types": {"disease": {"definition": "A disorder.", "prompt": "<disease>"}},
    "template": "<s>{type}{text}<sep>",
    "codec": "tags",
}


def config(
    to: Path, examples: list[str], steps: int, workers: int = 1, sharded: bool = False
) -> Path:
    """The run as a YAML file."""
    optimisation = {"steps": steps, "batch_tokens": 2048, "micro_tokens": 1024, "window": 512,
                    "warmup_steps": 10, "precision": "float32"}  # fmt: skip
    file = to.with_suffix(".yaml")
    file.write_text(
        yaml.safe_dump(
            {
                "to": str(to), "name": to.name, "task": TASK, "workers": workers,
                "sharded": sharded, "threads": 1,
                "shape": {"vocabulary": 1000, "width": 64, "feed_forward": 128, "layers": 2,
                          "heads": 2, "context_tokens": 512},
                "tuning": {"examples": examples, "optimisation": optimisation},
                "dev_examples": 0, "save_every": 10,
            }
        )
    )  # fmt: skip
    return file


def start(file: Path) -> subprocess.Popen[bytes]:
    """A run as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", "from jobs.cli import main; main()", "finetune", "--config", file],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def curve(to: Path) -> dict[int, float]:
    """Loss by step."""
    file = to.with_name(f"{to.name}.run") / "tuning" / "metrics.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return {row["step"]: row["loss"] for row in rows}


def apart(one: dict[int, float], other: dict[int, float]) -> float:
    """The largest difference of two curves of the same steps."""
    if one.keys() != other.keys():
        raise SystemExit(f"other steps: {sorted(one.keys() ^ other.keys())}")
    return max(abs(one[s] - other[s]) for s in one)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("examples", nargs="+")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    curves = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, workers in (("undisturbed", 1), ("two workers", 2), ("sharded", 2)):
            to = Path(folder) / name.replace(" ", "-")
            file = config(to, options.examples, options.steps, workers, name == "sharded")
            if start(file).wait():
                raise SystemExit(f"{name}: failed")
            curves[name] = curve(to)
        to = Path(folder) / "killed"
        file = config(to, options.examples, options.steps)
        for number in range(options.kills):
            process = start(file)
            # In the middle: after a few figures of its own, at a random instant.
            goal = options.steps * (number + 1) // (options.kills + 1)
            while max(curve(to), default=0) < goal and process.poll() is None:
                time.sleep(0.1)
            time.sleep(random.uniform(0, 2))
            ended = process.poll()
            kill_tree(process.pid)
            process.wait()
            print(f"kill {number + 1}: at step {max(curve(to))}"
                  + ("" if ended is None else f" (had ended by itself: {ended})"))  # fmt: skip
        if start(file).wait():
            raise SystemExit("killed: failed")
        curves["killed"] = curve(to)
    first = curves["undisturbed"]
    figures = {
        "steps": options.steps,
        "loss": {"first": first[min(first)], "last": first[max(first)]},
        "killed_apart": apart(first, curves["killed"]),
        "two_workers_apart": apart(first, curves["two workers"]),
        "sharded_apart": apart(first, curves["sharded"]),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
