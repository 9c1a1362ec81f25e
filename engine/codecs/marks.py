"""The marks in a completion, before they are aligned with the source text.

Enters: a completion, and a pattern of the codec's markers. Leaves: the text without markers, and
the marks. Left to others: aligning them (engine/steps/align.py).
"""

import re
from dataclasses import dataclass

from schemas.spans import Span


@dataclass(frozen=True, slots=True)
class Mark:
    """One marked piece of text.

    ``span`` lies in :attr:`Marked.text`. ``opened`` and ``closed`` are the spans of its markers in
    the completion. ``entity_type`` is null where markers have no type.
    """

    span: Span
    opened: Span
    closed: Span
    entity_type: str | None = None


@dataclass(frozen=True, slots=True)
class Marked:
    """``text`` is the completion without markers; ``marks`` are ordered by span; ``faults`` has an
    entry for each mark or marker that cannot count."""

    text: str
    marks: list[Mark]
    faults: list[str]


def read_marks(completion: str, marker: re.Pattern[str]) -> Marked:
    """Take the markers out of a completion.

    ``marker`` matches one marker, with the groups ``close`` (empty if it opens) and, where markers
    have a type, ``type``. Faults are ``nested`` (a mark within a mark of the same type, of which
    the outermost counts), ``unopened`` and ``unclosed`` (a marker without its partner), and
    ``empty`` (a mark around nothing). Marks of different types may nest and cross.
    """
    typed = "type" in marker.groupindex
    pieces: list[str] = []
    kept: dict[str | None, list[Mark]] = {}
    opened: dict[str | None, list[tuple[int, Span]]] = {}  # offset in the text, span of the marker
    faults: list[str] = []
    length = end = 0
    for match in marker.finditer(completion):
        pieces.append(completion[end : match.start()])
        length += match.start() - end
        end = match.end()
        kind = match["type"] if typed else None
        waiting, whole = opened.setdefault(kind, []), kept.setdefault(kind, [])
        if not match["close"]:
            waiting.append((length, Span(*match.span())))
        elif not waiting:
            faults.append("unopened")
        else:
            start, opener = waiting.pop()
            while whole and whole[-1].opened.start > opener.start:
                whole.pop()
                faults.append("nested")
            whole.append(Mark(Span(start, length), opener, Span(*match.span()), kind))
    pieces.append(completion[end:])
    everything = [m for marks in kept.values() for m in marks]
    marks = sorted((m for m in everything if m.span.start < m.span.end), key=lambda m: m.span)
    faults += ["empty"] * (len(everything) - len(marks))
    faults += ["unclosed"] * sum(map(len, opened.values()))
    return Marked("".join(pieces), marks, faults)
