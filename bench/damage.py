"""Damage done to completions on purpose, and what the aligner makes of it, by kind of damage.

Usage: .venv/bin/python bench/damage.py [CORPORA] [--cases N] [--every N] [--seed N]

Random texts first: each case is a text, a marking and one kind of damage, and each mark is known to
be placed right, placed wrong or unplaced. With CORPORA, a directory of ``*_test.txt`` with one
sentence and its gold ``<mark>`` a line, the gold marks go through the same damage: exact-span
precision, recall and F1 against the undamaged gold. Prints tables, then JSON.
"""

import argparse
import json
import time
from collections import Counter
from itertools import cycle, pairwise
from pathlib import Path
from random import Random
from typing import NamedTuple

from damages import KINDS, MARKERS, WORDS, Damage, Pieces, cut_up, write

from engine.codecs.mark import decode
from engine.steps.align import Alignment, align_mentions
from schemas.spans import Span, trim


class Case(NamedTuple):
    """A text and disjoint mentions in it."""

    source: str
    mentions: list[Span]


def make_case(rng: Random) -> Case:
    """A text of few different words, so that most of them occur again, and any marking of it."""
    words = rng.sample(WORDS, rng.randint(2, 12))
    source = "".join(
        rng.choice(words) + rng.choice(["", " ", " ", " ", "  "]) for _ in range(rng.randint(1, 40))
    )
    inside = rng.random() < 0.2
    places = [
        i for i in range(len(source) + 1)
        if inside or not 0 < i < len(source) or source[i - 1].isspace() or source[i].isspace()
    ]  # fmt: skip
    ends = sorted(rng.sample(places, min(len(places), rng.randint(0, 12))))
    spans = (
        trim(source, Span(*ends[i : i + 2])) for i in range(0, len(ends) - 1, rng.choice([1, 2]))
    )
    return Case(source, [s for s in spans if s.start < s.end])


class Verdict(NamedTuple):
    """What became of a mark. ``meant`` is the span whose words were marked, null if they are no
    longer those of the source; ``place`` is where they were put, null if nowhere."""

    meant: Span | None
    place: Span | None

    def outcome(self) -> str:
        if self.place is None:
            outcome = "unplaced"
        else:
            outcome = "right" if self.place == self.meant else "wrong"
        return outcome if self.meant else f"spoilt, {outcome}"


def judge(source: str, pieces: Pieces) -> tuple[Alignment, list[Verdict]]:
    """Align a damaged completion; compare each mark with where its characters are from."""
    marked = decode(write(pieces))
    alignment = align_mentions(source, marked)
    origins = [
        c.origin for p in pieces for c in p.characters if c.text not in MARKERS for _ in c.text
    ]
    places = {p.mark: p.span for p in alignment.placed}
    verdicts = [Verdict(None, None) for _ in marked.faults]
    for mark in marked.marks:
        solid = [origins[i] for i in range(*mark.span) if not marked.text[i].isspace()]
        verdicts.append(Verdict(_meant(source, solid), places.get(mark)))
    return alignment, verdicts


def _meant(source: str, origins: list[Span | None]) -> Span | None:
    """The span that characters are from, null if it is not they and no others that stand there."""
    known = [o for o in origins if o]
    if not origins or len(known) < len(origins):
        return None
    for a, b in pairwise(known):
        if a != b and (b.start < a.end or source[a.end : b.start].strip()):
            return None
    return Span(known[0].start, known[-1].end)


def run_cases(cases: int, seed: int) -> dict[str, Counter[str]]:
    """Marks by kind of damage and outcome, over so many random cases of all kinds together."""
    outcomes: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for number, kind in zip(range(cases), cycle(KINDS)):
        rng = Random(f"{seed}/{number}")
        case = make_case(rng)
        pieces = KINDS[kind](cut_up(*case), rng)
        alignment, verdicts = judge(case.source, pieces)
        outcomes[kind].update(v.outcome() for v in verdicts)
        outcomes[kind].update(u.reason for u in alignment.unplaced)
        outcomes[kind]["cases"] += 1
    return outcomes


def read_corpora(corpora: Path) -> tuple[list[Case], int]:
    """The sentences of all test files, and how many lines were left out, whose marks are nested,
    unbalanced or around nothing: no gold that one answer could say."""
    found, skipped = [], 0
    for file in sorted(corpora.glob("*_test.txt")):
        for line in file.read_text(encoding="utf-8").splitlines():
            marked = decode(line.strip())
            mentions = [trim(marked.text, m.span) for m in marked.marks]
            if marked.faults or any(m.start == m.end for m in mentions):
                skipped += 1
            else:
                found.append(Case(marked.text, mentions))
    return found, skipped


class Score(NamedTuple):
    """Exact spans against gold. ``left`` are the gold mentions that the damage left a mark of."""

    right: int
    placed: int
    left: int
    gold: int

    def figures(self) -> dict[str, float]:
        return {
            "left": self.left / max(self.gold, 1),
            "precision": self.right / max(self.placed, 1),
            "recall": self.right / max(self.gold, 1),
            "f1": 2 * self.right / max(self.placed + self.gold, 1),
        }


def score(cases: list[Case], damage: Damage, seed: int) -> Score:
    """Damage gold marks in one way, align them, and score the spans against the gold."""
    rng = Random(seed)
    right = placed = left = 0
    for case in cases:
        alignment, verdicts = judge(case.source, damage(cut_up(*case), rng))
        gold = set(case.mentions)
        right += sum(p.span in gold for p in alignment.placed)
        placed += len(alignment.placed)
        left += len({v.meant for v in verdicts if v.meant} & gold)
    return Score(right, placed, left, sum(len(c.mentions) for c in cases))


def main() -> None:
    """Do the damage and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("corpora", type=Path, nargs="?", help="directory of *_test.txt")
    parser.add_argument("--cases", type=int, default=40_000, help="random cases, of all kinds")
    parser.add_argument("--every", type=int, default=1, help="take every n-th sentence only")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    began = time.process_time()
    outcomes = run_cases(options.cases, options.seed)
    print(f"{options.cases:,} random cases, {time.process_time() - began:.0f} s. Marks by what was")
    print("done to their own words (untouched, or spoilt) and what became of them.\n")
    columns = ("right", "wrong", "unplaced", "spoilt, right", "spoilt, wrong", "spoilt, unplaced")
    print(f"{'damage':<22}{'cases':>7}" + "".join(f"{c:>{max(len(c) + 2, 10)}}" for c in columns))
    for kind, counts in outcomes.items():
        cells = "".join(f"{counts[c]:>{max(len(c) + 2, 10)},}" for c in columns)
        print(f"{kind:<22}{counts['cases']:>7,}{cells}")
    results: dict[str, object] = {"cases": options.cases, "random": outcomes}

    if options.corpora:
        cases, skipped = read_corpora(options.corpora)
        if not cases:
            parser.error(f"no *_test.txt in {options.corpora}")
        cases = cases[:: options.every]
        print(f"\n{len(cases):,} test sentences, {sum(len(c.mentions) for c in cases):,} mentions;")
        print(f"{skipped:,} lines with nested, unbalanced or empty marks are left out;")
        print("left: share of the gold mentions whose mark the damage left as it was.\n")
        print(f"{'damage':<22}{'left':>9}{'precision':>11}{'recall':>9}{'F1':>9}")
        scores = {kind: score(cases, KINDS[kind], options.seed).figures() for kind in KINDS}
        for kind, figures in scores.items():
            print(
                f"{kind:<22}"
                + "{left:>9.4f}{precision:>11.4f}{recall:>9.4f}{f1:>9.4f}".format(**figures)
            )
        results |= {"sentences": len(cases), "skipped": skipped, "corpora": scores}
    print(json.dumps(results))


if __name__ == "__main__":
    main()
