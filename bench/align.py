"""Aligning: sentences a second on one core, and seconds for completions meant to take long.

Usage: .venv/bin/python bench/align.py CORPORA [--rounds N] [--every N]

CORPORA is a directory of ``*_test.txt`` with one sentence and its gold ``<mark>`` a line. Decoding
is part of it; making the completions is not. Prints a table, then JSON.
"""

import argparse
import json
import statistics
import time
from collections import Counter
from pathlib import Path
from random import Random

from damage import read_corpora
from damages import KINDS, cut_up, write

from engine.codecs.mark import decode
from engine.steps.align import Alignment, align_mentions

LENGTH = 100_000
SENTENCE = (
    "Mutations in the ATM gene cause ataxia-telangiectasia, and ATM is lost in T-cell leukaemia."
)
MARKED = SENTENCE.replace("ATM", "<mark>ATM</mark>")


def adversarial() -> dict[str, tuple[str, str]]:
    """Source and completion by what is bad about them; completions of LENGTH code points."""
    rng = Random(0)

    def fill(text: str) -> str:
        return (text * (LENGTH // len(text) + 1))[:LENGTH]

    words = ["flu", "of", "lung", "the", "T", "-", "cell"]
    words_marked = [*words, "<mark>flu</mark>", "<mark>lung cell</mark>"]
    noise = fill(" ".join(rng.choice(words_marked) for _ in range(LENGTH // 5)))
    source = " ".join(rng.choice(words) for _ in range(LENGTH // 4))
    long = fill(MARKED + " ")
    # One sentence unlike the next.
    text = "".join(f"{MARKED[:-1]}, as {k} reports of {k * k} say. " for k in range(LENGTH // 130))
    halved = " ".join(w for w in text.split(" ") if rng.random() < 0.5)
    return {
        "the sentence for ever": (SENTENCE, fill(MARKED + " ")),
        "one letter for ever, marked": ("a flu " * 5, fill("<mark>a</mark> ")),
        "one letter for ever, as long a source": ("a " * LENGTH, fill("<mark>a</mark> ") + " b"),
        "one word of one letter": ("a" * LENGTH, fill("<mark>a</mark>") + "b"),
        "random words": (SENTENCE, noise),
        "random words, 500 in the source": (" ".join(source.split()[:500]), noise),
        "random words, as long a source": (source, noise),
        "half of the words, as long a source": (decode(text).text, halved),
        "one word lost, as long a source": (decode(text).text, text.replace("gene", "", 1)),
        "the same, every sentence equal": (decode(long).text, long.replace("gene", "", 1)),
        "white space doubled, as long a source": (decode(long).text, long.replace(" ", "  ")),
        "opening markers only": (SENTENCE, fill("<mark>")),
        "markers around nothing": (SENTENCE, fill("<mark></mark>")),
        "Greek letters": ("α-β " * 50, fill("<mark>beta</mark>-alpha ")),
    }


def measure(source: str, completion: str) -> tuple[float, Alignment]:
    """Seconds of processor time, the best of three, and what came out."""
    seconds = []
    for _ in range(3):
        began = time.process_time()
        alignment = align_mentions(source, decode(completion))
        seconds.append(time.process_time() - began)
    return min(seconds), alignment


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("corpora", type=Path, help="directory of *_test.txt")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--every", type=int, default=10, help="take every n-th sentence only")
    options = parser.parse_args()
    cases, _ = read_corpora(options.corpora)
    # A completion without marks costs next to nothing: left out.
    cases = [c for c in cases if c.mentions][:: options.every]
    if not cases:
        parser.error(f"no *_test.txt in {options.corpora}")

    print(f"{len(cases):,} sentences with mentions, {options.rounds} rounds, one core\n")
    print(f"{'completions':<24}{'sentences/s':>12}")
    speeds: dict[str, float] = {}
    for kind, damage in KINDS.items():
        rng = Random(0)
        pairs = [(c.source, write(damage(cut_up(*c), rng))) for c in cases]
        rounds = []
        for _ in range(options.rounds):
            began = time.process_time()
            for source, completion in pairs:
                align_mentions(source, decode(completion))
            rounds.append(len(pairs) / (time.process_time() - began))
        speeds[kind] = statistics.median(rounds)
        print(f"{kind:<24}{speeds[kind]:>12,.0f}")

    print(f"\n{'completion of ' + f'{LENGTH:,}':<40}{'seconds':>9}{'placed':>8}  unplaced")
    slowest: dict[str, float] = {}
    for name, (source, completion) in adversarial().items():
        slowest[name], alignment = measure(source, completion)
        reasons = Counter(u.reason for u in alignment.unplaced)
        print(f"{name:<40}{slowest[name]:>9.3f}{len(alignment.placed):>8,}  {dict(reasons)}")
    print(json.dumps({"sentences_per_second": speeds, "seconds_adversarial": slowest}))


if __name__ == "__main__":
    main()
