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
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, pairwise
from pathlib import Path
from random import Random
from typing import NamedTuple

from engine.align import Alignment, align_mentions
from engine.codecs.mark import decode
from engine.variants import fold
from schemas.spans import Span, trim


class Character(NamedTuple):
    """A character of a completion and the span of the source that it stands for: null if none."""

    text: str
    origin: Span | None


@dataclass(frozen=True)
class Piece:
    """Some characters of a completion: a mention, or a word of what is around with its spacing.

    ``before`` and ``after`` are markers. ``gold`` is null outside mentions.
    """

    characters: tuple[Character, ...]
    gold: Span | None = None
    before: str = ""
    after: str = ""

    @property
    def text(self) -> str:
        return "".join(c.text for c in self.characters)


MARKERS = ("<mark>", "</mark>")

Pieces = list[Piece]
Damage = Callable[[Pieces, Random], Pieces]


def cut_up(source: str, mentions: Sequence[Span]) -> Pieces:
    """The faithful completion, in pieces."""
    pieces = []
    end = 0
    for mention in [*sorted(mentions), Span(len(source), len(source))]:
        start = end
        for i in range(end, mention.start):
            if i + 1 == mention.start or (source[i].isspace() and not source[i + 1].isspace()):
                pieces.append(Piece(_characters(source, Span(start, i + 1))))
                start = i + 1
        if mention.start < mention.end:
            pieces.append(Piece(_characters(source, mention), mention, "<mark>", "</mark>"))
        end = mention.end
    return pieces


def _characters(source: str, span: Span) -> tuple[Character, ...]:
    return tuple(Character(source[i], Span(i, i + 1)) for i in range(*span))


def write(pieces: Pieces) -> str:
    """The completion that the pieces are."""
    return "".join(p.before + p.text + p.after for p in pieces)


# What leaves the letters of every word as they are.


def leave(pieces: Pieces, rng: Random) -> Pieces:
    return pieces


def respace(pieces: Pieces, rng: Random) -> Pieces:
    """White space taken out, doubled or put in beside punctuation, in mentions as well."""

    def change(c: Character) -> list[Character]:
        if c.text.isspace():
            return [c] * rng.choice([0, 1, 1, 2])
        if len(c.text) == 1 and not c.text.isalnum() and not unicodedata.combining(c.text):
            return [Character(" ", None)] * rng.randint(0, 1) + [c]
        return [c]

    return [_change(p, change) for p in pieces]


def recase(pieces: Pieces, rng: Random) -> Pieces:
    """Words in capitals or small letters, or each the other way."""

    def change(piece: Piece) -> Piece:
        how: Callable[[str], str] = rng.choice([str.upper, str.lower, str.swapcase])
        return _change(piece, lambda c: [Character(how(c.text), c.origin)])

    return [change(p) for p in pieces]


VARIANTS = [
    ("α", "alpha"), ("β", "beta"), ("γ", "gamma"), ("κ", "kappa"), ("Δ", "Delta"), ("µ", "μ"),
    ("-", "\u2010"), ("-", "\u2011"), ("-", "–"), ("-", "\u2212"), ("'", "\u2019"), ("'", "\u2032"),
    ('"', "\u201c"), ('"', "\u201d"), ("fi", "\ufb01"), ("fl", "\ufb02"), ("ff", "\ufb00"),
    ("é", "e\u0301"), ("ö", "o\u0308"), ("₂", "2"), ("²", "2"), ("\u00a0", " "), ("/", "\u2215"),
]  # fmt: skip


def vary(pieces: Pieces, rng: Random) -> Pieces:
    """Greek letters and their names, dashes, quotes, ligatures, accents, each for the other."""

    def change(piece: Piece) -> Piece:
        characters = list(piece.characters)
        for pair in VARIANTS:
            old, new = pair if rng.random() < 0.5 else pair[::-1]
            i = 0
            while (
                rng.random() < 0.9 and (i := "".join(c.text for c in characters).find(old, i)) >= 0
            ):
                if any(len(c.text) > 1 for c in characters):
                    break
                there = [c.origin for c in characters[i : i + len(old)] if c.origin]
                origin = Span(there[0].start, there[-1].end) if there else None
                characters[i : i + len(old)] = [Character(c, origin) for c in new]
                i += len(new)
        return replace(piece, characters=tuple(characters))

    return [change(p) for p in pieces]


# What changes words, but none of a mention's own.


def drop(pieces: Pieces, rng: Random) -> Pieces:
    """One to three runs of words left out, mentions in them too."""
    for _ in range(rng.randint(1, 3)):
        run = _run(pieces, rng)
        pieces = _join(pieces[: run.start], pieces[run.stop :])
    return pieces


def repeat(pieces: Pieces, rng: Random) -> Pieces:
    """One or two runs of words written again, with their marks."""
    for _ in range(rng.randint(1, 2)):
        run = _run(pieces, rng)
        again = [pieces[run]] * rng.randint(1, 2)
        pieces = _join(pieces[: run.stop], *again, pieces[run.stop :])
    return pieces


def misspell(pieces: Pieces, rng: Random) -> Pieces:
    """A third of the words outside mentions misspelt, so that the source has no such words."""
    return _exchange(pieces, lambda word: f"x{word}x", rng)


def alter(pieces: Pieces, rng: Random) -> Pieces:
    """A third of the words outside mentions misspelt, exchanged for others or led by a new one."""

    def change(word: str) -> str:
        new = rng.choice(WORDS)
        return rng.choice([_misspell(word, rng), new, f"{new} {word}"])

    return _exchange(pieces, change, rng)


def _exchange(pieces: Pieces, change: Callable[[str], str], rng: Random) -> Pieces:
    exchanged = []
    for piece in pieces:
        word = piece.text.strip()
        if word and not piece.gold and rng.random() < 0.33:
            new = piece.text.replace(word, change(word))
            exchanged.append(Piece(tuple(Character(c, None) for c in new)))
        else:
            exchanged.append(piece)
    return exchanged


def stop(pieces: Pieces, rng: Random) -> Pieces:
    """An end after some word."""
    return pieces[: rng.randint(0, len(pieces))]


def truncate(pieces: Pieces, rng: Random) -> Pieces:
    """An end anywhere, in the middle of a mention too, which is then never closed."""
    kept = stop(pieces, rng)
    if not kept:
        return kept
    last = kept[-1]
    characters = last.characters[: rng.randint(0, len(last.characters))]
    return [*kept[:-1], replace(last, characters=characters, after="")]


def loop(pieces: Pieces, rng: Random) -> Pieces:
    """Some words again and again, instead of the end, and oftener than the source has them."""
    run = _run(pieces, rng)
    whole, again = (fold("".join(p.text for p in part)).letters for part in (pieces, pieces[run]))
    return _join(pieces[: run.start], *[pieces[run]] * (rng.randint(3, 30) + whole.count(again)))


# What changes the markers.


def nest(pieces: Pieces, rng: Random) -> Pieces:
    """Marks within marks: ``<mark>lung <mark>cancer</mark></mark>``."""

    def change(piece: Piece) -> Piece:
        if not piece.gold or rng.random() < 0.5:
            return piece
        inner = rng.randint(0, len(piece.characters))
        opened = (*piece.characters[:inner], Character("<mark>", None), *piece.characters[inner:])
        return replace(piece, characters=(*opened, Character("</mark>", None)))

    return [change(p) for p in pieces]


def unbalance(pieces: Pieces, rng: Random) -> Pieces:
    """Opening or closing markers lost, here and there."""

    def change(piece: Piece) -> Piece:
        lost = rng.randrange(4)
        before, after = piece.before * (lost != 0), piece.after * (lost != 1)
        return replace(piece, before=before, after=after)

    return [change(p) for p in pieces]


def cross(pieces: Pieces, rng: Random) -> Pieces:
    """``</mark>`` where the next mention has begun: ``<mark>a <mark>b</mark> c</mark>``."""
    crossed = list(pieces)
    for i, piece in enumerate(pieces[:-1]):
        if piece.gold and rng.random() < 0.5:
            after = pieces[i + 1]
            crossed[i] = replace(crossed[i], after="")
            crossed[i + 1] = replace(after, before=after.before, after=after.after + "</mark>")
    return crossed


def split(pieces: Pieces, rng: Random) -> Pieces:
    """A mention as two marks with nothing between."""

    def change(piece: Piece) -> Pieces:
        if not piece.gold or len(piece.characters) < 2:
            return [piece]
        at = rng.randrange(1, len(piece.characters))
        parts = piece.characters[:at], piece.characters[at:]
        return [replace(piece, characters=part) for part in parts]

    return [q for p in pieces for q in change(p)]


def narrow(pieces: Pieces, rng: Random) -> Pieces:
    """A mark that begins and ends anywhere in its mention, in the middle of words too."""

    def change(piece: Piece) -> Pieces:
        if not piece.gold:
            return [piece]
        start, end = sorted(rng.sample(range(len(piece.characters) + 1), 2))
        left, right = piece.characters[:start], piece.characters[end:]
        return [
            Piece(left, piece.gold),
            replace(piece, characters=piece.characters[start:end]),
            Piece(right, piece.gold),
        ]

    return [q for p in pieces for q in change(p)]


def sprinkle(pieces: Pieces, rng: Random) -> Pieces:
    """Empty marks, and marks around white space."""
    empty = Piece((Character(rng.choice(["", " ", "\n "]), None),), None, "<mark>", "</mark>")
    return [q for p in pieces for q in ([empty, p] if rng.random() < 0.3 else [p])]


# In this order: one that works on the letters would take markers among them for such.
_HARMLESS: list[Damage] = [vary, recase, respace, narrow, split, unbalance, sprinkle, nest]


def lose(pieces: Pieces, rng: Random) -> Pieces:
    """Two or three kinds of damage at once, words only lost."""
    return _mix([drop, stop, misspell, *_HARMLESS], pieces, rng)


def add(pieces: Pieces, rng: Random) -> Pieces:
    """Two or three kinds of damage at once, words only added."""
    return _mix([repeat, misspell, *_HARMLESS], pieces, rng)


def shake(pieces: Pieces, rng: Random) -> Pieces:
    """Two or three kinds of damage at once, words lost and words written again.

    Of some of these nobody can say what happened: ``a flu c``, of ``a flu b flu c``, with the
    first flu written twice, and what follows lost, reads like another marking of ``a flu b flu``.
    """
    return _mix([drop, repeat, alter, stop, loop, vary, recase, respace, split], pieces, rng)


def _mix(kinds: list[Damage], pieces: Pieces, rng: Random) -> Pieces:
    for damage in sorted(rng.sample(kinds, rng.randint(2, 3)), key=kinds.index):
        pieces = damage(pieces, rng)
    return pieces


# What changes a mention's own words: it has no place any more.


def spoil(pieces: Pieces, rng: Random) -> Pieces:
    """Misspelt mentions."""

    def change(piece: Piece) -> Piece:
        new = _misspell(piece.text, rng)
        if not piece.gold or rng.random() < 0.5 or fold(new).letters == fold(piece.text).letters:
            return piece
        return replace(piece, characters=tuple(Character(c, None) for c in new))

    return [change(p) for p in pieces]


def _run(pieces: Pieces, rng: Random) -> slice:
    start = rng.randint(0, max(len(pieces) - 1, 0))
    return slice(start, start + rng.randint(1, 6))


def _join(*parts: Pieces) -> Pieces:
    """All parts, with a space where two words would become one."""
    joined: Pieces = []
    for part in parts:
        text = (joined[-1].text if joined else "")[-1:] + (part[0].text if part else "")[:1]
        if len(text) == 2 and text.isalnum():
            joined.append(Piece((Character(" ", None),)))
        joined += part
    return joined


def _misspell(text: str, rng: Random) -> str:
    i = rng.randrange(len(text)) if text else 0
    how = rng.randrange(3)
    return text[:i] + ["", text[i : i + 1] * 2, rng.choice("aeioux")][how] + text[i + 1 :]


def _change(piece: Piece, change: Callable[[Character], list[Character]]) -> Piece:
    return replace(piece, characters=tuple(new for c in piece.characters for new in change(c)))


KINDS: dict[str, Damage] = {
    "none": leave,
    "spacing": respace,
    "case": recase,
    "Unicode variants": vary,
    "dropped words": drop,
    "repeated words": repeat,
    "altered words": alter,
    "early stop": stop,
    "truncation": truncate,
    "endless repetition": loop,
    "nested marks": nest,
    "unbalanced marks": unbalance,
    "crossing marks": cross,
    "empty marks": sprinkle,
    "adjacent marks": split,
    "marks inside words": narrow,
    "several, words lost": lose,
    "several, words added": add,
    "several, both": shake,
    "altered mentions": spoil,
}


WORDS = [
    "the", "of", "and", "in", "with", "patients", "lung", "cancer", "tumour", "fibrosis", "flu",
    "TNF", "TNF-α", "TNFα", "alpha", "β-catenin", "IL-2", "IL-2R", "p53", "T", "cell", "T-cell",
    "ER", "ERα", "α", "5'-UTR", "naïve", "cafe\u0301", "Sjögren's", "ﬁbroblast", "e\u0301", "😀",
    "𝛂", "CO₂", "10", "µg/ml", "µ", ".", ",", "(", ")", "-", "/", '"', "İ", "ß", "a", "A", "b",
]  # fmt: skip


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
    """Align a damaged completion, and hold each mark against where its characters are from."""
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
    """Pass gold marks through one kind of damage, and hold what is placed against the gold."""
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
