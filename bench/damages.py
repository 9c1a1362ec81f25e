"""The kinds of damage that a completion can suffer, each done to a faithful one.

A completion is a list of pieces that know what of the source they stand for: whatever is done to
them, it stays known where each mark belongs.
"""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

from engine.steps.variants import fold
from schemas.spans import Span


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


WORDS = [
    "the", "of", "and", "in", "with", "patients", "lung", "cancer", "tumour", "fibrosis", "flu",
    "TNF", "TNF-α", "TNFα", "alpha", "β-catenin", "IL-2", "IL-2R", "p53", "T", "cell", "T-cell",
    "ER", "ERα", "α", "5'-UTR", "naïve", "cafe\u0301", "Sjögren's", "ﬁbroblast", "e\u0301", "😀",
    "𝛂", "CO₂", "10", "µg/ml", "µ", ".", ",", "(", ")", "-", "/", '"', "İ", "ß", "a", "A", "b",
]  # fmt: skip

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
