"""Do vLLM and transformers store the same mentions, and vLLM the same twice?

    .venv/bin/python bench/backends.py ../shared/data/pubmed-xml --limit 300

Annotates the same citations with vLLM, with vLLM again (the noise floor) and with transformers, in
the same precision (--dtype float32 takes most of the rounding out of it). Prints every citation
that differs, and the figures as JSON on the last line.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

ROOT = Path(__file__).parents[1]
Mention = tuple[int, int, str, str]
RUNS = {"vllm": "vllm", "vllm again": "vllm", "transformers": "transformers"}


def annotate(
    source: str, target: Path, backend: str, options: argparse.Namespace
) -> dict[str, Any]:
    """Run ``pubmark annotate``; gives what --json prints."""
    config = target.with_suffix(".yaml")
    config.write_text(f"dtype: {options.dtype}\n")
    done = subprocess.run(
        [sys.executable, "-c", "from jobs.cli import main; main()", "annotate", source,
         "--to", str(target), "--backend", backend, "--limit", str(options.limit),
         "--config", str(config), "--json"],
        cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def stored(target: Path) -> dict[int, dict[Mention, float]]:
    """By PMID, the mentions and their scores."""
    table = DeltaTable(target / "annotations").to_pyarrow_table(columns=["pmid", "mentions"])
    return {
        row["pmid"]: {
            (m["start"], m["end"], m["entity_type"], m["text"]): m["score"] for m in row["mentions"]
        }
        for row in table.to_pylist()
    }


def main() -> None:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--dtype", default="auto")
    options = parser.parse_args()
    source = str(Path(options.source).resolve())
    figures: dict[str, Any] = {"dtype": options.dtype}
    with tempfile.TemporaryDirectory() as folder:
        tables = {}
        for name, backend in RUNS.items():
            target = Path(folder) / name.replace(" ", "-")
            result = annotate(source, target, backend, options)
            tables[name] = stored(target)
            figures[name] = {k: result[k] for k in ("annotated", "mentions", "unplaced", "seconds")}
    first = tables["vllm"]
    for name in ("vllm again", "transformers"):
        other = tables[name]
        differ = [pmid for pmid in first if set(first[pmid]) != set(other[pmid])]
        for pmid in differ:
            print(f"{name}, PMID {pmid}:")
            for label, found in (
                ("only vllm", set(first[pmid]) - set(other[pmid])),
                (f"only {name}", set(other[pmid]) - set(first[pmid])),
            ):
                for mention in sorted(found):
                    score = {**first[pmid], **other[pmid]}[mention]
                    print(f"  {label}: {mention[0]}-{mention[1]} {mention[2]} {mention[3]!r} "
                          f"score {score:.3f}")  # fmt: skip
        common = [
            abs(first[pmid][m] - other[pmid][m])
            for pmid in first
            for m in set(first[pmid]) & set(other[pmid])
        ]
        figures[f"vllm against {name}"] = {
            "citations_the_same": round(1 - len(differ) / len(first), 4),
            "largest_score_difference": round(max(common, default=0.0), 4),
            "mean_score_difference": round(sum(common) / max(1, len(common)), 6),
        }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
