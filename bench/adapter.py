"""Is an adapter the same served by vLLM, merged, and by transformers with peft?

    .venv/bin/python bench/adapter.py ../shared/data/bioner-llama

Tunes a LoRA adapter over nano for some seconds, so that what it marks differs from nano, merges it,
and has real sentences (``*_test.txt``, markers stripped) answered by each, and by nano itself, in
--dtype. An own adapter: --adapter DIRECTORY. JSON on the last line; exits 1 if less than 98% of the
sentences, or of the mentions, are the same as of transformers with peft, or if at least as many as
that are the same as of the base, for then the adapter does nothing and nothing is shown.
"""

import argparse
import json
import random
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/support")]


def read_sentences(folder: Path, count: int) -> list[str]:
    """As many sentences of each file, drawn at random with a fixed seed."""
    files = sorted(folder.glob("*_test.txt"))
    drawn = random.Random(0)
    sentences = []
    for i, file in enumerate(files):
        lines = [re.sub(r"</?mark>", "", line).strip() for line in file.open(encoding="utf-8")]
        share = count * (i + 1) // len(files) - count * i // len(files)
        sentences += drawn.sample([s for s in lines if s], share)
    return sentences


def main() -> None:
    """Tune, merge, run, compare, print."""
    from answers import agreement, find_mentions
    from tiny_adapter import tune_adapter

    from engine.backends.base import EngineSettings
    from engine.checkpoints.load import load_checkpoint
    from engine.checkpoints.merge import merge

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sentences", type=Path)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--adapter")
    options = parser.parse_args()
    sentences = read_sentences(options.sentences, options.limit)
    settings = EngineSettings(dtype=options.dtype)
    with tempfile.TemporaryDirectory() as folder:
        adapter = options.adapter or str(
            tune_adapter(ROOT / "checkpoints/nano", Path(folder) / "adapter")
        )
        base = load_checkpoint(adapter).path
        merge(adapter, Path(folder) / "merged", "float32")
        merge(adapter, Path(folder) / "rounded")
        runs = {
            "transformers, adapter": (adapter, "transformers"),
            "vllm, adapter": (adapter, "vllm"),
            "vllm, merged": (f"{folder}/merged", "vllm"),
            "vllm, merged as the base is": (f"{folder}/rounded", "vllm"),
            "vllm, base": (base, "vllm"),
        }
        figures: dict[str, Any] = {"sentences": len(sentences), "dtype": options.dtype}
        found = {}
        for name, (ref, backend) in runs.items():
            began = time.time()
            found[name] = find_mentions(ref, backend, sentences, settings)
            figures[name] = {
                "mentions": sum(map(len, found[name])),
                "seconds": round(time.time() - began, 1),
                **agreement(found["transformers, adapter"], found[name]),
            }
            print(name, figures[name], file=sys.stderr)
    print(json.dumps(figures))
    kept = [min(f["sentences_the_same"], f["mentions_of_both"])
            for f in (figures["vllm, adapter"], figures["vllm, merged"])]  # fmt: skip
    sys.exit(min(kept) < 0.98 or figures["vllm, base"]["sentences_the_same"] >= 0.98)


if __name__ == "__main__":
    main()
