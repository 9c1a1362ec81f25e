"""Several entity types in one pass: each mention between ``<TYPE>`` and ``</TYPE>``.

The white space before a mention is inside its mark (``the<gene> ATM</gene> gene``). Byte-level
tokenizers make one token of a word and the space before it. So if the markers are tokens of their
own, the answer repeats exactly the prompt's tokens: that is quickly learned, and guessed right by
prompt-lookup speculation. Mentions of different types may overlap, those of one type may not.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from engine.codecs.marks import Marked, read_marks
from schemas.spans import TypedSpan


def encode(text: str, mentions: Sequence[TypedSpan]) -> str:
    """The target text for ``text``.

    Raises:
        ValueError: for what the codec cannot express: spans of one type that overlap, spans that
            are empty or leave the text, or a text that holds a marker of a type that is marked.
    """
    types = tuple(sorted({m.entity_type for m in mentions}))
    if types and (marker := _marker(types).search(text)):
        raise ValueError(f"text holds {marker[0]} at {marker.start()}, which is a marker")
    ends: dict[str, int] = {}
    markers: list[tuple[int, int, int, str]] = []
    for start, end, kind in sorted(mentions):
        if not ends.get(kind, 0) <= start < end <= len(text):
            raise ValueError(
                f"span {(start, end, kind)} overlaps another, is empty or leaves the text"
            )
        ends[kind] = end
        begin = len(text[:start].rstrip())
        # At one offset, marks end before others begin, and the longer mention is the outer one.
        markers += [(begin, 1, -end, f"<{kind}>"), (end, 0, -begin, f"</{kind}>")]
    pieces, done = [], 0
    for offset, _, _, tag in sorted(markers):
        pieces += [text[done:offset], tag]
        done = offset
    return "".join([*pieces, text[done:]])


def decode(completion: str, entity_types: Sequence[str]) -> Marked:
    """Take the markers of ``entity_types`` out of a completion; any other is plain text."""
    return read_marks(completion, _marker(tuple(entity_types)))


def markers(entity_types: Sequence[str]) -> list[tuple[str, str]]:
    """What opens and what closes a mention, by type."""
    return [(f"<{kind}>", f"</{kind}>") for kind in entity_types]


@lru_cache(maxsize=64)
def _marker(entity_types: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(f"<(?P<close>/?)(?P<type>{'|'.join(map(re.escape, entity_types))})>")
