"""Mentions to target text for tuning, completions to marked pieces for annotating.

One module per codec, named as a task names it, with ``encode``, ``decode`` and ``markers``.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from engine.codecs import mark, tags
from engine.codecs.marks import Marked
from schemas.spans import TypedSpan

CODEC_VERSION = 1
"""Goes up when any codec writes or reads a completion in another way."""


class Codec(NamedTuple):
    """Both directions of one codec, and what opens and closes a mention of some entity types. What
    decodes is told the entity types that were asked for."""

    encode: Callable[[str, Sequence[TypedSpan]], str]
    decode: Callable[[str, Sequence[str]], Marked]
    markers: Callable[[Sequence[str]], list[tuple[str, str]]]


CODECS = {
    "mark": Codec(mark.encode, mark.decode, mark.markers),
    "tags": Codec(tags.encode, tags.decode, tags.markers),
}
