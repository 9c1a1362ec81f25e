"""What the tags of a sentence's tokens mark, as conlleval reads them: how the field scores them."""

import re
from collections.abc import Sequence
from typing import NamedTuple

_TAG = re.compile(r"O|([BIES])(?:-(.*))?")
_UNTYPED = "_"


class Chunk(NamedTuple):
    """A mention in tokens: ``[start, end)``."""

    start: int
    end: int
    entity_type: str


def chunk(tags: Sequence[str]) -> list[Chunk]:
    """The mentions in order, whichever of IOB1, IOB2 and IOBES the tags are, and however broken.

    ``I`` or ``E`` goes on with a mention if ``B`` or ``I`` of its type stands right before it, and
    otherwise begins one, as after ``O``. A tag without a type is of type ``_``.

    Raises:
        ValueError: for a tag that is none of ``O``, or ``B``, ``I``, ``E``, ``S`` with a type.
    """
    chunks: list[Chunk] = []
    before = "O"
    for i, tag in enumerate(tags):
        match = _TAG.fullmatch(tag)
        if match is None:
            raise ValueError(f"tag {tag!r}, expected O, or B, I, E, S with -TYPE")
        prefix, kind = match[1] or "O", match[2] or _UNTYPED
        if prefix in "IE" and before in "BI" and chunks[-1].entity_type == kind:
            chunks[-1] = Chunk(chunks[-1].start, i + 1, kind)
        elif prefix != "O":
            chunks.append(Chunk(i, i + 1, kind))
        before = prefix
    return chunks
