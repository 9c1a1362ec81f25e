"""Marks of a completion, placed as spans of the source text.

Enters: the text that a prompt asked about, and the decoded completion. Leaves: spans in that text.
Left to others: decoding the completion (codecs), and making rows of the spans (finish.py). A mark
that the source does not contain is never placed: it comes back as unplaced, with the reason.

Two cases. If the completion equals the source up to spacing, case and the like (variants.py), every
mark is placed, in linear time. If not, a mark is placed at an occurrence of its letters in the
source under two conditions: aligning the words before it and after it there needs no more edits
than aligning the whole completion with the whole source, and no other occurrence fits as well.

It follows that a mark is placed correctly wherever the model only dropped words or only added some,
however many: no other alignment of such a completion needs fewer edits. If the model dropped some
words and repeated others, a wrong alignment can need fewer edits than the right one, and is taken.
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
"""A mark is placed only if every other occurrence needs more edits than the best one, by more than
a margin. The margin is 1 edit, plus 1 for every 2 altered words of the completion, rounded up."""
_NEIGHBOURS = 3
"""How many words on each side of an occurrence are compared with those beside the mark."""
_WORK = 30_000_000
"""The work that one completion may cost, in steps of some 10 ns. Once it is spent, the marks that
are left are not tried."""
_SAMPLE = 200
"""How many code points of an unplaced mark's text are stored."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A mark and its span ``[start, end)`` in code points of the source text.

    ``grade`` is ``exact`` if the completion repeats the source verbatim at the mention and around
    it, else ``repaired``.
    """

    mark: Mark
    span: Span
    grade: Grade


@dataclass(frozen=True, slots=True)
class Unplaced:
    """A mark that has no span in the source.

    ``text`` is the beginning of the marked text, None if the codec found a fault. ``reason`` is the
    codec's fault (``truncated`` for an ``unclosed`` mark at the token limit), or one of:

    - ``blank``: only white space was marked.
    - ``altered``: the source does not have these words.
    - ``moved``: the source has them, but not at this point of the text.
    - ``ambiguous``: several occurrences fit.
    - ``repeated``: an earlier mark has this span, or the mark is in a loop at the completion's end.
    - ``overlong``: not tried, as finding it would take too long.
    """

    reason: str
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Alignment:
    """The marks of one completion. ``placed`` are ordered by span, and no two of the same type
    overlap; ``unplaced`` are all others."""

    placed: list[Placed]
    unplaced: list[Unplaced]


def align_mentions(source: str, marked: Marked, truncated: bool = False) -> Alignment:
    """Place the marks of a completion that should repeat ``source``.

    Spans have no white space at their ends. ``truncated``: the completion hit its token limit.
    """
    placed: dict[str | None, list[Placed]] = {}
    unplaced = [
        Unplaced("truncated" if truncated and fault == "unclosed" else fault)
        for fault in marked.faults
    ]
    for mark, match in zip(marked.marks, _find(source, marked), strict=True):
        if isinstance(match, Span):
            others = placed.setdefault(mark.entity_type, [])
            at = bisect_left(others, match, key=lambda p: p.span)
            if not any(p.span.overlaps(match) for p in others[max(at - 1, 0) : at + 1]):
                grade = _grade(source, match, marked.text, trim(marked.text, mark.span))
                others.insert(at, Placed(mark, match, grade))
                continue
            reason = "repeated"
        else:
            reason = match
        start, end = mark.span
        unplaced.append(Unplaced(reason, marked.text[start : min(end, start + _SAMPLE)]))
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
        letters = Span(*(bisect_left(theirs.offsets, offset) for offset in mark.span))
        if letters.start == letters.end:
            yield "blank"
            continue
        match = search.find(letters) if search else letters
        yield match if isinstance(match, str) else ours.span(match) or "altered"


class _Words:
    """A folded text whose words are one character each: the form that rapidfuzz compares fastest.

    ``codes`` maps a word to its character. The two texts compared must share it, so that equal
    words are the same character.
    """

    def __init__(self, folded: Folded, codes: dict[str, str]) -> None:
        self.letters = folded.letters
        self._bounds = [*folded.starts, len(folded.letters)]
        self.end = len(folded.letters)
        words = (self.letters[a:b] for a, b in pairwise(self._bounds))
        # From the 1,114,112th different word on all share the last code: words are context only.
        self.words = "".join(codes.setdefault(w, chr(min(len(codes), 0x10FFFF))) for w in words)

    def cut_loop(self, source: str) -> None:
        """Cut a loop at the end of the text down to its first round, unless ``source`` has it too.

        A model that loops writes the same words until its token limit. A later round would be
        placed at an occurrence of these words further on in the source, which it does not mean.
        """
        period, length = _loop(self.letters)
        start = len(self.letters) - length
        if length and self.letters[start:] not in source:
            self.end = start + period
            self.words = self.words[: bisect_left(self._bounds, self.end)]

    def around(self, span: Span) -> tuple[str, str]:
        """The whole words before and after ``span`` (in letters)."""
        before = bisect_right(self._bounds, span.start) - 1
        return self.words[:before], self.words[bisect_left(self._bounds, span.end) :]

    def cut(self, span: Span) -> tuple[str, str]:
        """The letters before and after ``span`` that belong to the words it begins and ends in."""
        start = self._bounds[bisect_right(self._bounds, span.start) - 1]
        end = self._bounds[bisect_left(self._bounds, span.end)]
        return self.letters[start : span.start], self.letters[span.end : end]

    def goes_on(self, span: Span, left: str, right: str) -> bool:
        """Whether the letters ``left`` stand right before ``span``, and ``right`` right after."""
        return self.letters.endswith(left, 0, span.start) and self.letters.startswith(
            right, span.end
        )


class _Search:
    """Finds marks of a completion (``theirs``) in its source (``ours``). Spans are in letters of
    the folded texts; the work that is left is shared by all marks of the completion."""

    def __init__(self, ours: Folded, theirs: Folded) -> None:
        codes: dict[str, str] = {}
        self._ours, self._theirs = _Words(ours, codes), _Words(theirs, codes)
        self._work = _WORK
        self._theirs.cut_loop(self._ours.letters)
        worst = max(len(self._ours.words), len(self._theirs.words))
        self._edits = self._distance(self._ours.words, self._theirs.words, worst)
        # How many words were altered, as opposed to dropped or added: at least the words that the
        # source does not have, and at least the edits beyond the difference in length.
        known = set(self._ours.words)
        unknown = sum(w not in known for w in self._theirs.words)
        length = abs(len(self._ours.words) - len(self._theirs.words))
        altered = max(unknown, self._edits - length)
        self._margin = _MARGIN + -(-altered // _MARGIN_SHARE)

    def find(self, theirs: Span) -> Span | str:
        """The one occurrence that ``theirs`` is from, or the reason why there is none.

        It needs no more edits than the whole completion, every other occurrence needs more by over
        the margin, and no other has as many neighbouring words that agree.
        """
        if theirs.end > self._theirs.end:
            return "repeated"
        if self._work < 0:
            return "overlong"
        before, after = self._theirs.around(theirs)
        limit = self._edits + self._margin
        candidates: list[tuple[int, int, Span]] = []  # edits, neighbours that disagree, span
        for ours in self._occurrences(theirs):
            our_before, our_after = self._ours.around(ours)
            edits = self._distance(our_before, before, limit)
            if edits <= limit:
                edits += self._distance(our_after, after, limit - edits)
            agree = _agree(our_before[: -_NEIGHBOURS - 1 : -1], before[: -_NEIGHBOURS - 1 : -1])
            agree += _agree(our_after[:_NEIGHBOURS], after[:_NEIGHBOURS])
            candidates.append((edits, 2 * _NEIGHBOURS - agree, ours))
        if self._work < 0:
            return "overlong"
        if not candidates:
            return "altered"
        edits, disagree, best = min(candidates)
        if edits > self._edits:
            return "moved"
        if any(
            (e <= edits + self._margin or d <= disagree) and span != best
            for e, d, span in candidates
        ):
            return "ambiguous"
        return best if self._same_words(best, theirs) else "altered"

    def _occurrences(self, theirs: Span) -> Iterator[Span]:
        """Yield all occurrences of the letters in the source, also within words, while there is
        work left."""
        letters = self._theirs.letters[theirs.start : theirs.end]
        start = self._ours.letters.find(letters)
        while start >= 0 and self._work >= 0:
            self._work -= 250
            yield Span(start, start + len(letters))
            start = self._ours.letters.find(letters, start + 1)

    def _same_words(self, ours: Span, theirs: Span) -> bool:
        """Whether both texts continue equally to the end of the word, if the mark ends within one:
        a marked ``ER`` is not taken from ``ERα``."""
        return self._ours.goes_on(ours, *self._theirs.cut(theirs)) and self._theirs.goes_on(
            theirs, *self._ours.cut(ours)
        )

    def _distance(self, ours: str, theirs: str, limit: int) -> int:
        """How many words must be edited to turn one sequence into the other; ``limit + 1`` if more
        than ``limit``, or if there is no work left."""
        if ours == theirs:
            self._work -= len(ours) // 16
            return 0
        # rapidfuzz compares 64 words in one step, and only the band of the matrix within the limit.
        band = min(len(ours), len(theirs), 2 * limit + 1)
        self._work -= max(len(ours), len(theirs)) * (1 + band // 64)
        if self._work < 0:
            return limit + 1
        return Levenshtein.distance(ours, theirs, score_cutoff=limit)


def _agree(ours: str, theirs: str) -> int:
    """How many words at the beginning are the same in both."""
    count = 0
    for a, b in zip(ours, theirs, strict=False):
        if a != b:
            break
        count += 1
    return count


def _loop(letters: str) -> tuple[int, int]:
    """The longest end of ``letters`` that repeats one piece at least three times.

    Gives the length of the piece and of the whole repetition, (0, 0) if there is none, in linear
    time (the prefix function of Knuth, Morris and Pratt, on the reversed text).
    """
    reverse = letters[::-1]
    borders = [0]
    longest = (0, 0)
    border = 0
    for i in range(1, len(reverse)):
        while border and reverse[i] != reverse[border]:
            border = borders[border - 1]
        border += reverse[i] == reverse[border]
        borders.append(border)
        if i + 1 >= 3 * (i + 1 - border):
            longest = (i + 1 - border, i + 1)
    return longest
