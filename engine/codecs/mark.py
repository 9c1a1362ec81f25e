"""The paper's codec: the sentence, with each mention between ``<mark>`` and ``</mark>``.

Keloth et al., Bioinformatics 2024, btae163. One prompt asks for one entity type.
"""

import re
from collections.abc import Sequence

from engine.codecs.marked import Mark, Marked
from schemas.spans import Span

_MARKER = re.compile(r"</?mark>")


def encode(text: str, mentions: Sequence[Span]) -> str:
    """The target for ``text``: every span of ``mentions`` wrapped, overlapping ones refused.

    Raises:
        ValueError: if spans overlap or leave the text, or if it holds a marker of its own: the
            codec cannot say this.
    """
    if marker := _MARKER.search(text):
        raise ValueError(f"text holds {marker[0]} at {marker.start()}, which is a marker")
    pieces, end = [], 0
    for span in sorted(mentions):
        if not end <= span.start < span.end <= len(text):
            raise ValueError(f"span {tuple(span)} overlaps another, is empty or leaves the text")
        pieces += [text[end : span.start], "<mark>", text[span.start : span.end], "</mark>"]
        end = span.end
    return "".join([*pieces, text[end:]])


def decode(completion: str) -> Marked:
    """Take the markers out of a completion.

    Of nested marks the outermost counts and the inner ones are faults, as are a marker without
    its partner and a mark around nothing: ``nested``, ``unopened``, ``unclosed``, ``empty``.
    """
    pieces: list[str] = []
    kept: list[Mark] = []
    faults: list[str] = []
    opened: list[tuple[int, Span]] = []  # place in the text, place of the marker
    length = end = 0
    for marker in _MARKER.finditer(completion):
        pieces.append(completion[end : marker.start()])
        length += marker.start() - end
        end = marker.end()
        where = Span(*marker.span())
        if marker[0] == "<mark>":
            opened.append((length, where))
        elif not opened:
            faults.append("unopened")
        else:
            start, opener = opened.pop()
            while kept and kept[-1].opened.start > opener.start:
                kept.pop()
                faults.append("nested")
            kept.append(Mark(Span(start, length), opener, where))
    pieces.append(completion[end:])
    marks = [m for m in kept if m.span.start < m.span.end]
    faults += ["empty"] * (len(kept) - len(marks)) + ["unclosed"] * len(opened)
    return Marked("".join(pieces), marks, faults)
