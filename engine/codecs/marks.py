"""What a completion says, before it is held against the source."""

import re
from dataclasses import dataclass

from schemas.spans import Span


@dataclass(frozen=True, slots=True)
class Mark:
    """One marked piece: its span in :attr:`Marked.text`, and where in the completion the markers
    stand that opened and closed it. ``entity_type`` is null where the markers do not say it."""

    span: Span
    opened: Span
    closed: Span
    entity_type: str | None = None


@dataclass(frozen=True, slots=True)
class Marked:
    """``text`` is the completion without markers; ``faults`` names each mark that cannot count."""

    text: str
    marks: list[Mark]
    faults: list[str]


def read_marks(completion: str, marker: re.Pattern[str]) -> Marked:
    """Take the markers out of a completion.

    ``marker`` matches one marker, with the groups ``close`` (empty if it opens) and, where markers
    say it, ``type``. Of nested marks of one type the outermost counts and the inner ones are
    faults, as are a marker without its partner and a mark around nothing: ``nested``,
    ``unopened``, ``unclosed``, ``empty``. Marks of different types may nest and cross.
    """
    typed = "type" in marker.groupindex
    pieces: list[str] = []
    kept: dict[str | None, list[Mark]] = {}
    opened: dict[str | None, list[tuple[int, Span]]] = {}  # place in the text, of the marker
    faults: list[str] = []
    length = end = 0
    for found in marker.finditer(completion):
        pieces.append(completion[end : found.start()])
        length += found.start() - end
        end = found.end()
        kind = found["type"] if typed else None
        waiting, whole = opened.setdefault(kind, []), kept.setdefault(kind, [])
        if not found["close"]:
            waiting.append((length, Span(*found.span())))
        elif not waiting:
            faults.append("unopened")
        else:
            start, opener = waiting.pop()
            while whole and whole[-1].opened.start > opener.start:
                whole.pop()
                faults.append("nested")
            whole.append(Mark(Span(start, length), opener, Span(*found.span()), kind))
    pieces.append(completion[end:])
    everything = [m for marks in kept.values() for m in marks]
    marks = sorted((m for m in everything if m.span.start < m.span.end), key=lambda m: m.span)
    faults += ["empty"] * (len(everything) - len(marks))
    faults += ["unclosed"] * sum(map(len, opened.values()))
    return Marked("".join(pieces), marks, faults)
