"""Codecs: mentions to target text for tuning, completions to marks for annotating.

One module per codec, named as a task names it, with ``encode``, ``decode`` and ``markers``. Where
marks lie in the citation's text is left to engine/steps/align.py.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from engine.codecs import mark, tags
from engine.codecs.marks import Marked
from schemas.spans import TypedSpan

CODEC_VERSION = 1
"""Raised when any codec writes target text or reads completions differently."""


class Codec(NamedTuple):
    """Both directions of one codec, and its markers.

    ``encode(text, mentions)`` gives target text. ``decode(completion, entity_types)`` gives the
    marks; the types are those that the prompt asked for. ``markers(entity_types)`` gives, by type,
    what opens and what closes a mention.
    """

    encode: Callable[[str, Sequence[TypedSpan]], str]
    decode: Callable[[str, Sequence[str]], Marked]
    markers: Callable[[Sequence[str]], list[tuple[str, str]]]


CODECS = {
    "mark": Codec(mark.encode, mark.decode, mark.markers),
    "tags": Codec(tags.encode, tags.decode, tags.markers),
}
