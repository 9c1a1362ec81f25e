"""What the model marked, placed onto the source text.

Enters: the text that a prompt asked about and the decoded completion. Leaves: spans in that text.
What the model made up is never placed: it comes back as unplaced, with the reason.
"""

from dataclasses import dataclass
from typing import Literal

from engine.codecs.marked import Mark, Marked
from schemas.spans import Span, trim

ALIGNER_VERSION = 1

Grade = Literal["exact", "repaired"]


@dataclass(frozen=True, slots=True)
class Placed:
    """A mark and its span ``[start, end)`` in code points of the source text."""

    mark: Mark
    span: Span
    grade: Grade


@dataclass(frozen=True, slots=True)
class Alignment:
    """``placed`` in order of the text; ``unplaced`` holds one reason per mark that has no place:
    a codec's fault, ``altered`` (the completion is not the source), ``truncated`` (it hit its
    token limit), ``blank`` (only white space was marked)."""

    placed: list[Placed]
    unplaced: list[str]


def align_mentions(source: str, marked: Marked, truncated: bool = False) -> Alignment:
    """Place the marks of a completion that repeats ``source``, up to spacing.

    Spans are trimmed of white space. A completion that differs by more than spacing places
    nothing.
    """
    unplaced = list(marked.faults)
    if not marked.marks:
        return Alignment([], unplaced)
    if marked.text == source:
        grade: Grade = "exact"
        spans = [m.span for m in marked.marks]
    else:
        grade = "repaired"
        ours, theirs = _solid(source), _solid(marked.text)
        if [source[i] for i in ours] != [marked.text[i] for i in theirs]:
            reason = "truncated" if truncated else "altered"
            return Alignment([], unplaced + [reason] * len(marked.marks))
        # theirs[k] and ours[k] are the same solid character.
        rank = {place: k for k, place in enumerate(theirs)}
        spans = [_carry(trim(marked.text, m.span), rank, ours) for m in marked.marks]
    placed = []
    for mark, span in zip(marked.marks, spans, strict=True):
        span = trim(source, span)
        if span.start < span.end:
            placed.append(Placed(mark, span, grade))
        else:
            unplaced.append("blank")
    return Alignment(placed, unplaced)


def _solid(text: str) -> list[int]:
    """Where the characters that are no white space stand."""
    return [i for i, c in enumerate(text) if not c.isspace()]


def _carry(span: Span, rank: dict[int, int], ours: list[int]) -> Span:
    if span.start == span.end:
        return Span(0, 0)
    return Span(ours[rank[span.start]], ours[rank[span.end - 1]] + 1)
