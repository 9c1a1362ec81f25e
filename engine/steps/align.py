"""What the model marked, placed onto the source text.

Enters: the text that a prompt asked about and the decoded completion. Leaves: spans in that text.
What the model made up is never placed: it comes back as unplaced, with the reason.

A completion that is the source up to spacing, case and the like (``variants``) places every mark,
in linear time. Of any other a mark is placed where its own letters stand in the source, if the
words before and after it fit there at no more edits than the whole completion needs, and fit
nowhere else as well. So where words were only dropped or only added, however many, what is placed
is placed right: no reading of such a completion needs fewer edits than what happened. Where words
were dropped and others written twice, another reading can be the shorter one, and is then taken.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Literal

from rapidfuzz.distance import Levenshtein

from engine.codecs.marks import Mark, Marked
from engine.steps.variants import Folded, fold
from schemas.spans import Span, trim

ALIGNER_VERSION = 3

Grade = Literal["exact", "repaired"]

_WINDOW = 16
"""How many code points on each side of a mention must be verbatim for ``exact``."""
_MARGIN, _MARGIN_SHARE = 1, 2
"""By how many edits any other place must be worse than the one that is taken, and for how many
altered words one more."""
_NEIGHBOURS = 3
"""How many words on each side are looked at for a neighbourhood that speaks for another place."""
_WORK = 30_000_000
"""What a completion may cost, in steps of some 10 ns. Marks that would cost more are not tried."""
_SAMPLE = 200
"""How many code points of an unplaced mark are kept."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A mark and its span ``[start, end)`` in code points of the source text. ``exact``: mention
    and neighbourhood are verbatim the source's; ``repaired``: they had to be mended."""

    mark: Mark
    span: Span
    grade: Grade


@dataclass(frozen=True, slots=True)
class Unplaced:
    """A mark that has no place. ``text`` is the beginning of what was marked, null for a fault.

    ``reason`` is a codec's fault (``truncated`` for an ``unclosed`` mark at the token limit), or
    ``blank`` (only white space was marked), ``altered`` (the source does not have these words),
    ``moved`` (it has them, but not where the completion would have them), ``ambiguous`` (several
    places fit), ``repeated`` (the place is taken by an earlier mark), ``overlong`` (not tried).
    """

    reason: str
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Alignment:
    """``placed`` in order of the text, none of a type overlapping; ``unplaced`` has all others."""

    placed: list[Placed]
    unplaced: list[Unplaced]


def align_mentions(source: str, marked: Marked, truncated: bool = False) -> Alignment:
    """Place the marks of a completion that should repeat ``source``.

    Spans are trimmed of white space. ``truncated``: the completion hit its token limit.
    """
    placed: dict[str | None, list[Placed]] = {}
    unplaced = [
        Unplaced("truncated" if truncated and fault == "unclosed" else fault)
        for fault in marked.faults
    ]
    for mark, place in zip(marked.marks, _find(source, marked), strict=True):
        if isinstance(place, Span):
            others = placed.setdefault(mark.entity_type, [])
            at = bisect_left(others, place, key=lambda p: p.span)
            if not any(p.span.overlaps(place) for p in others[max(at - 1, 0) : at + 1]):
                grade = _grade(source, place, marked.text, trim(marked.text, mark.span))
                others.insert(at, Placed(mark, place, grade))
                continue
            place = "repeated"
        start, end = mark.span
        unplaced.append(Unplaced(place, marked.text[start : min(end, start + _SAMPLE)]))
    return Alignment(sorted(chain(*placed.values()), key=lambda p: p.span), unplaced)


def _grade(source: str, ours: Span, completion: str, theirs: Span) -> Grade:
    a, b = (
        text[max(span.start - _WINDOW, 0) : span.end + _WINDOW]
        for text, span in ((source, ours), (completion, theirs))
    )
    return "exact" if a == b else "repaired"


def _find(source: str, marked: Marked) -> Iterator[Span | str]:
    """For each mark its span in ``source``, or the reason why it has none."""
    if not marked.marks:
        return
    if marked.text == source:
        for mark in marked.marks:
            span = trim(source, mark.span)
            yield span if span.start < span.end else "blank"
        return
    ours, theirs = fold(source), fold(marked.text)
    search = None if ours.letters == theirs.letters else _Search(ours, theirs)
    for mark in marked.marks:
        letters = Span(*(bisect_left(theirs.places, place) for place in mark.span))
        if letters.start == letters.end:
            yield "blank"
            continue
        found = search.find(letters) if search else letters
        yield found if isinstance(found, str) else ours.span(found) or "altered"


class _Words:
    """A folded text, and its words as one character each: the form that rapidfuzz compares
    fastest. What words are equal is settled by ``codes``, common to the texts compared."""

    def __init__(self, folded: Folded, codes: dict[str, str]) -> None:
        self.letters = folded.letters
        self._bounds = [*folded.starts, len(folded.letters)]
        self.end = len(folded.letters)
        words = (self.letters[a:b] for a, b in pairwise(self._bounds))
        # Of more than a million different words the rest counts as one: they only give context.
        self.words = "".join(codes.setdefault(w, chr(min(len(codes), 0x10FFFF))) for w in words)

    def cut_loop(self, source: str) -> None:
        """Leave off what the end says over and over, but once, if the source does not say it so.

        A loop goes on until the token limit: what of it also stands further on in the source
        would be taken for that.
        """
        period, length = _loop(self.letters)
        start = len(self.letters) - length
        if length and self.letters[start:] not in source:
            self.end = start + period
            self.words = self.words[: bisect_left(self._bounds, self.end)]

    def around(self, span: Span) -> tuple[str, str]:
        """The words before and after some letters, without the words that these cut."""
        before = bisect_right(self._bounds, span.start) - 1
        return self.words[:before], self.words[bisect_left(self._bounds, span.end) :]

    def cut(self, span: Span) -> tuple[str, str]:
        """What some letters leave of the words that they begin and end in."""
        start = self._bounds[bisect_right(self._bounds, span.start) - 1]
        end = self._bounds[bisect_left(self._bounds, span.end)]
        return self.letters[start : span.start], self.letters[span.end : end]

    def goes_on(self, span: Span, left: str, right: str) -> bool:
        """Whether ``left`` stands before some letters and ``right`` behind them."""
        return self.letters.endswith(left, 0, span.start) and self.letters.startswith(
            right, span.end
        )


class _Search:
    """Finds letters of a completion, ``theirs``, in those of its source, ``ours``."""

    def __init__(self, ours: Folded, theirs: Folded) -> None:
        codes: dict[str, str] = {}
        self._ours, self._theirs = _Words(ours, codes), _Words(theirs, codes)
        self._work = _WORK
        self._theirs.cut_loop(self._ours.letters)
        worst = max(len(self._ours.words), len(self._theirs.words))
        self._edits = self._distance(self._ours.words, self._theirs.words, worst)
        # Altered, not only lost or added: words that the source does not have, or the edits beyond
        # the difference in length.
        known = set(self._ours.words)
        strange = sum(w not in known for w in self._theirs.words)
        length = abs(len(self._ours.words) - len(self._theirs.words))
        altered = max(strange, self._edits - length)
        self._margin = _MARGIN + -(-altered // _MARGIN_SHARE)

    def find(self, theirs: Span) -> Span | str:
        """The one place that ``theirs`` is from, or the reason why there is none.

        The reading taken needs no more edits than the whole, any other more by a margin, and no
        other place has as many neighbours that agree.
        """
        if theirs.end > self._theirs.end:
            return "repeated"
        if self._work < 0:
            return "overlong"
        before, after = self._theirs.around(theirs)
        limit = self._edits + self._margin
        places: list[tuple[int, int, Span]] = []  # edits, neighbours that disagree, place
        for ours in self._occurrences(theirs):
            our_before, our_after = self._ours.around(ours)
            edits = self._distance(our_before, before, limit)
            if edits <= limit:
                edits += self._distance(our_after, after, limit - edits)
            agree = _agree(our_before[: -_NEIGHBOURS - 1 : -1], before[: -_NEIGHBOURS - 1 : -1])
            agree += _agree(our_after[:_NEIGHBOURS], after[:_NEIGHBOURS])
            places.append((edits, 2 * _NEIGHBOURS - agree, ours))
        if self._work < 0:
            return "overlong"
        if not places:
            return "altered"
        edits, disagree, place = min(places)
        if edits > self._edits:
            return "moved"
        if any((e <= edits + self._margin or d <= disagree) and p != place for e, d, p in places):
            return "ambiguous"
        return place if self._same_words(place, theirs) else "altered"

    def _occurrences(self, theirs: Span) -> Iterator[Span]:
        """Where the letters stand in our text, within words too, while there is work left."""
        letters = self._theirs.letters[theirs.start : theirs.end]
        start = self._ours.letters.find(letters)
        while start >= 0 and self._work >= 0:
            self._work -= 250
            yield Span(start, start + len(letters))
            start = self._ours.letters.find(letters, start + 1)

    def _same_words(self, ours: Span, theirs: Span) -> bool:
        """Whether a word that goes on beyond the mark goes on equally: ``ER`` is not in ``ERα``."""
        return self._ours.goes_on(ours, *self._theirs.cut(theirs)) and self._theirs.goes_on(
            theirs, *self._ours.cut(ours)
        )

    def _distance(self, ours: str, theirs: str, limit: int) -> int:
        """Edits between two runs of words, or ``limit + 1`` if they are more."""
        if ours == theirs:
            self._work -= len(ours) // 16
            return 0
        # rapidfuzz takes 64 words at a time, and of a limit no more than the band that it leaves.
        band = min(len(ours), len(theirs), 2 * limit + 1)
        self._work -= max(len(ours), len(theirs)) * (1 + band // 64)
        if self._work < 0:
            return limit + 1
        return Levenshtein.distance(ours, theirs, score_cutoff=limit)


def _agree(ours: str, theirs: str) -> int:
    """How many words are the same before the first that is not."""
    count = 0
    for a, b in zip(ours, theirs, strict=False):
        if a != b:
            break
        count += 1
    return count


def _loop(letters: str) -> tuple[int, int]:
    """The longest end of ``letters`` that is the same at least three times over: the length of
    one round and of all, in linear time (the prefix function of Knuth, Morris and Pratt)."""
    reverse = letters[::-1]
    borders = [0]
    found = (0, 0)
    border = 0
    for i in range(1, len(reverse)):
        while border and reverse[i] != reverse[border]:
            border = borders[border - 1]
        border += reverse[i] == reverse[border]
        borders.append(border)
        if i + 1 >= 3 * (i + 1 - border):
            found = (i + 1 - border, i + 1)
    return found
