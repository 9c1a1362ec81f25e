"""In which count a document's offsets are, where they are not code points of its text.

Offsets are meant to count code points. Some tools count UTF-16 units or UTF-8 bytes, take a line's
end for one character or for two, count a byte order mark, or count from the passage or sentence. A
file says of most mentions what their text is, which tells: a document is read in another count if
every one of its mentions then stands at its offsets, and in no other case.

Enters: a text, and what a file claims of its mentions. Leaves: the count, and the mentions' spans.
Left to others: parsing files (a module per format), and what becomes of a document whose mentions
stand at their offsets in no count.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, product
from typing import Literal, NamedTuple

from engine.corpora.leaks import split_words
from schemas.spans import Span

Unit = Literal["code points", "UTF-16 units", "UTF-8 bytes"]
Origin = Literal["text", "document", "passage", "sentence", "sentence or passage", "line"]
"""What offsets count from: the start of the text; of the document, with passages one apart whatever
their own offsets are; or of the part that the mention is in."""

BOM = "\ufeff"
_LINE_END = re.compile(r"\r\n|\r|\n")
_WIDTHS: dict[Unit, Callable[[str], int]] = {
    "code points": lambda _: 1,
    "UTF-16 units": lambda c: 1 + (ord(c) > 0xFFFF),
    "UTF-8 bytes": lambda c: len(c.encode(errors="surrogatepass")),
}


class Count(NamedTuple):
    """How offsets count. ``line_end``: units of each line's end, null for as many as it has.
    ``ahead``: units that are counted before the first code point."""

    unit: Unit = "code points"
    line_end: int | None = None
    ahead: int = 0
    origin: Origin = "text"

    def __str__(self) -> str:
        words: list[str] = [self.unit]
        if self.line_end is not None:
            words.append(f"each line end as {self.line_end}")
        if self.ahead:
            words.append(f"with {self.ahead} ahead of the text")
        if self.origin != "text":
            words.append(f"from the start of the {self.origin}")
        return ", ".join(words)


STANDARD = Count()


class Claim(NamedTuple):
    """What a file says of one mention: its pieces in the file's own offsets, its words (null if the
    file gives none), and its type."""

    pieces: Sequence[Span]
    surface: str | None
    entity_type: str


@dataclass(frozen=True, slots=True)
class Reading:
    """A count, and the pieces of each claim in code points of the text."""

    count: Count
    pieces: list[list[Span]]


class Ruler:
    """Offsets in a count, as positions in code points of ``text``."""

    def __init__(self, text: str, count: Count):
        self.starts: Sequence[int] = range(count.ahead, count.ahead + len(text) + 1)
        """The offset of each code point, and that of the text's end."""
        if count.unit == "code points" and count.line_end is None:
            return
        width = _WIDTHS[count.unit]
        widths = [width(c) for c in text]
        if count.line_end is not None:
            for end in _LINE_END.finditer(text):
                widths[end.start() : end.end()] = [count.line_end] + [0] * (len(end[0]) - 1)
        self.starts = list(accumulate(widths, initial=count.ahead))

    def measure(self) -> int:
        """The text's length in the count."""
        return self.starts[-1] - self.starts[0]

    def place(self, span: Span) -> Span | None:
        """The span in code points; None if it is empty, leaves the text, or cuts a code point."""
        start = bisect_right(self.starts, span.start) - 1
        end = bisect_left(self.starts, span.end)
        if not 0 <= start < end < len(self.starts):
            return None
        exact = self.starts[start] == span.start and self.starts[end] == span.end
        return Span(start, end) if exact else None


def counts_to_try(text: str, origins: Sequence[Origin], has_bom: bool = False) -> Iterator[Count]:
    """The counts that differ from STANDARD in this text, those that differ in less coming first.

    ``text`` has its line ends as they are counted.
    """
    units: list[Unit] = ["code points"]
    if not text.isascii():
        if any(c > "\uffff" for c in text):
            units.append("UTF-16 units")
        units.append("UTF-8 bytes")
    ends: list[int | None] = [None, *((1, 2, 0) if _LINE_END.search(text) else ())]
    counts = []
    for unit, end, bom, origin in product(units, ends, (False, True), origins):
        ahead = (3 if unit == "UTF-8 bytes" and has_bom else 1) if bom else 0
        counts.append(Count(unit, end, ahead, origin))
    counts.sort(key=_strangeness)
    yield from (count for count in counts if count != STANDARD)


def _strangeness(count: Count) -> tuple[int, list[bool]]:
    """In how much a count differs from STANDARD; of several, another unit is most common."""
    differs = [a != b for a, b in zip(count, STANDARD, strict=True)]
    return sum(differs), [not d for d in differs]


def agrees(text: str, pieces: Sequence[Span], surface: str | None, strictly: bool) -> bool:
    """Whether a mention's words stand at its pieces; yes if the file does not say what they are.

    How much white space is between words does not count. Unless ``strictly``, only letters and
    digits count, without case, accents and escapes, as some corpora give their mentions' texts in
    another form than the text.
    """
    if surface is None:
        return True
    hull = text[min(p.start for p in pieces) : max(p.end for p in pieces)]
    for here in (hull, " ".join(text[p.start : p.end] for p in pieces)):
        same = here.split() == surface.split()
        if same and (not strictly or _ends(here) == _ends(surface)):
            return True
        if not strictly and (letters := _letters(here)) and letters == _letters(surface):
            return True
    return False


def displaced(text: str, claims: Sequence[Claim], strictly: bool = False) -> int:
    """How many claims do not stand at their offsets if these count code points of the text."""
    return sum(
        any(not 0 <= p.start < p.end <= len(text) for p in claim.pieces)
        or not agrees(text, claim.pieces, claim.surface, strictly)
        for claim in claims
        if claim.surface is not None and claim.pieces
    )


def tell_count(
    text: str,
    claims: Sequence[Claim],
    parts: Mapping[Origin, Sequence[Span]],
    has_bom: bool = False,
) -> Reading | None:
    """The first count in which all of a document's claims stand at their offsets; None if they do
    so in code points of the text, or if there is no such count.

    ``text`` has line ends where offsets count them. ``parts`` are those that offsets may count
    from, by what they are called. Which of them a mention is in follows from the order of the
    claims; where that leaves more than one way, the count is none of those.
    """
    if not all(claim.pieces for claim in claims):
        return None
    for strictly in (True, False):
        if not displaced(text, claims, strictly):
            return None
        for count in counts_to_try(text, ["text", *parts], has_bom):
            pieces = (
                _place_all(text, claims, count, strictly)
                if count.origin == "text"
                else _place_in_parts(text, claims, count, parts[count.origin], strictly)
            )
            if pieces is not None:
                return Reading(count, pieces)
    return None


def _place_all(
    text: str, claims: Sequence[Claim], count: Count, strictly: bool
) -> list[list[Span]] | None:
    ruler = Ruler(text, count)
    placed = []
    for claim in claims:
        pieces = [piece for p in claim.pieces if (piece := ruler.place(p)) is not None]
        whole = len(pieces) == len(claim.pieces)
        if not whole or not agrees(text, pieces, claim.surface, strictly):
            return None
        placed.append(pieces)
    return placed


_Choice = tuple[int, list[Span]]
"""A part, by number, and the pieces of a claim in it."""


class _Way(NamedTuple):
    """One way, of ``ways``, to put all claims so far into parts, as a linked list."""

    ways: int
    before: "_Way | None"
    pieces: list[Span]


def _place_in_parts(
    text: str, claims: Sequence[Claim], count: Count, parts: Sequence[Span], strictly: bool
) -> list[list[Span]] | None:
    """The claims' pieces, each counted from the start of its part; None if a claim has no place, or
    if it cannot be told in which part it has it."""
    rulers = [Ruler(text[part.start : part.end], count) for part in parts]
    choices: list[list[_Choice]] = []
    for claim in claims:
        own: list[_Choice] = []
        for number, (part, ruler) in enumerate(zip(parts, rulers, strict=True)):
            pieces = [p.shift(part.start) for s in claim.pieces if (p := ruler.place(s))]
            whole = len(pieces) == len(claim.pieces)
            if whole and agrees(text, pieces, claim.surface, strictly):
                own.append((number, pieces))
        if not own:
            return None
        choices.append(own)
    if all(len(own) == 1 for own in choices):
        return [own[0][1] for own in choices]
    return _choose_in_order(claims, choices)


def _choose_in_order(
    claims: Sequence[Claim], choices: Sequence[Sequence[_Choice]]
) -> list[list[Span]] | None:
    """The choices by which the claims go on from part to part, and by offset within each; None if
    not exactly one way does so."""
    ways: dict[int, _Way] = {}
    key: tuple[Sequence[Span], str] | None = None
    for claim, own in zip(claims, choices, strict=True):
        following: dict[int, _Way] = {}
        before, key = key, (claim.pieces, claim.entity_type)
        for number, pieces in own:
            if before is None:
                following[number] = _Way(1, None, pieces)
                continue
            same_part = before < key
            former = [w for n, w in ways.items() if n < number or (n == number and same_part)]
            if former:
                following[number] = _Way(sum(w.ways for w in former), former[0], pieces)
        ways = following
    if sum(way.ways for way in ways.values()) != 1:
        return None
    (at,) = ways.values()
    placed = [at.pieces]
    while at.before is not None:
        at = at.before
        placed.append(at.pieces)
    return placed[::-1]


def _ends(text: str) -> tuple[bool, bool]:
    """Whether a text begins, and whether it ends, with white space."""
    return text[:1].isspace(), text[-1:].isspace()


def _letters(text: str) -> str:
    return "".join(split_words(text))
