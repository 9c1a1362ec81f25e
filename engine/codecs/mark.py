"""The paper's codec: the sentence, with each mention between ``<mark>`` and ``</mark>``.

Keloth et al., Bioinformatics 2024, btae163. One prompt asks for one entity type.
"""

import re
from collections.abc import Sequence

from engine.codecs.marks import Marked, read_marks
from schemas.spans import Span, TypedSpan

_MARKER = re.compile(r"<(?P<close>/?)mark>")


def encode(text: str, mentions: Sequence[Span | TypedSpan]) -> str:
    """The target text for ``text``: every span of ``mentions`` between markers.

    Raises:
        ValueError: for what the codec cannot express: spans that overlap, are empty or leave the
            text, or a text that holds a marker of its own.
    """
    if marker := _MARKER.search(text):
        raise ValueError(f"text holds {marker[0]} at {marker.start()}, which is a marker")
    pieces, end = [], 0
    for span in sorted(Span(m.start, m.end) for m in mentions):
        if not end <= span.start < span.end <= len(text):
            raise ValueError(f"span {tuple(span)} overlaps another, is empty or leaves the text")
        pieces += [text[end : span.start], "<mark>", text[span.start : span.end], "</mark>"]
        end = span.end
    return "".join([*pieces, text[end:]])


def decode(completion: str, entity_types: Sequence[str] = ()) -> Marked:
    """Take the markers out of a completion; marks have no type, as a prompt asks for just one."""
    return read_marks(completion, _MARKER)


def markers(entity_types: Sequence[str] = ()) -> list[tuple[str, str]]:
    """What opens and what closes a mention; the same for every type."""
    return [("<mark>", "</mark>")]
