"""A mention given as one or more pieces of a text, checked against it.

BioC and brat both allow several pieces, and both repeat the mention's text.
"""

from collections.abc import Sequence
from itertools import pairwise

from engine.corpora.formats.texts import Fault
from schemas.spans import Span, TypedSpan


def place_mention(
    text: str, pieces: Sequence[Span], surface: str, entity_type: str, place: str
) -> tuple[TypedSpan | None, Fault | None]:
    """The mention, if it can be said as one span, and what is wrong with it, if anything.

    Pieces with only white space between them are one: brat writes a mention over a line's end so.
    Others are a discontinuous mention, which is fatal to the units it touches: no span says it.
    White space is not compared.
    """
    pieces = sorted(pieces)
    shown = ", ".join(f"{p.start}-{p.end}" for p in pieces)
    if not pieces or any(not 0 <= p.start < p.end <= len(text) for p in pieces):
        found = f"{surface!r:.80} at {shown or 'no place'} of {len(text)} code points"
        return None, Fault(place, "outside the text", found)
    hull = Span(pieces[0].start, max(p.end for p in pieces))
    gaps = [text[a.end : b.start] for a, b in pairwise(pieces)]
    if any(gap.strip() for gap in gaps):
        return None, Fault(place, "discontinuous mention", f"{surface!r:.80} at {shown}", hull)
    here = text[hull.start : hull.end]
    mention = TypedSpan(*hull, entity_type)
    if here.split() != surface.split():
        found = f"{surface!r:.80} at {shown}, where {here!r:.80} stands"
        return mention, Fault(place, "text differs", found, hull, False)
    return mention, None
