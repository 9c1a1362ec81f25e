"""Token limits of completions: how many real sentences are longer marked than they may be.

Usage: .venv/bin/python bench/limits.py CORPORA [--checkpoint C]

CORPORA is a directory of ``*.txt`` with one sentence and its gold ``<mark>`` a line. Prints, by
file, how many sentences have a target that is over the limit: with the codec's own limit, and with
1.5 tokens per token of the text.
"""

import argparse
from pathlib import Path

from engine.checkpoints.load import load_checkpoint
from engine.checkpoints.tokenizer import load_tokenizer
from engine.steps.prompts import Prompter
from schemas.spans import Span
from schemas.task import EntityType, Task

_OLD = {"max_tokens_per_text_token": 1.5}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("corpora", type=Path)
    parser.add_argument("--checkpoint", default="nano", help="Whose tokenizer counts.")
    options = parser.parse_args()
    tokenizer = load_tokenizer(load_checkpoint(options.checkpoint).tokenizer_path)
    types = {"gene": EntityType(definition="")}
    tasks = [Task(entity_types=types, template="{text}", decoding=d) for d in (_OLD, {})]  # type: ignore[arg-type]
    prompters = [Prompter(t, tokenizer, 1 << 20) for t in tasks]
    print(f"{'file':32} sentences  over 1.5 + 32  over the codec's  most mentions per token")
    total = [0, 0, 0]
    for path in sorted(options.corpora.glob("*.txt")):
        lines = [s for line in path.read_text(encoding="utf-8").splitlines() if (s := line.strip())]
        lines = [line for line in lines if "<mark>" in line]
        over, densest = [0, 0], 0.0
        for line, target in zip(lines, tokenizer.encode_texts(lines), strict=True):
            text = line.replace("<mark>", "").replace("</mark>", "")
            prompts = [p.make_prompts(text, [Span(0, len(text))]) for p in prompters]
            if len(prompts[0]) != 1 or len(prompts[1]) != 1:
                continue  # too long for one prompt
            for i, (prompt,) in enumerate(prompts):
                over[i] += len(target.ids) > prompt.max_tokens
            tokens = len(prompts[1][0].token_ids)
            if tokens >= 20:
                densest = max(densest, line.count("<mark>") / tokens)
        print(f"{path.name:32} {len(lines):9} {over[0]:14} {over[1]:17} {densest:24.2f}")
        total = [a + b for a, b in zip(total, (len(lines), *over), strict=True)]
    print(f"{'all':32} {total[0]:9} {total[1]:14} {total[2]:17}")


if __name__ == "__main__":
    main()
