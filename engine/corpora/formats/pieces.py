"""A mention given as one or more pieces of a text, checked against the text.

Enters: the pieces' spans and the mention's text, which BioC and brat both give. Leaves: one span,
or a fault. Left to others: finding the pieces in a file (bioc.py, brat.py).
"""

from collections.abc import Sequence
from itertools import pairwise

from engine.corpora.formats.texts import Fault
from schemas.spans import Span, TypedSpan


def join_pieces(
    text: str, pieces: Sequence[Span], surface: str, entity_type: str, place: str
) -> tuple[TypedSpan | None, Fault | None]:
    """The mention, or None if no single span can express it; and its fault, or None.

    Pieces with only white space between them are joined, as brat writes a mention across a line's
    end so. Other pieces are a discontinuous mention, a fatal fault of the units that it touches.
    ``surface`` is compared with the text without regard to white space.
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
