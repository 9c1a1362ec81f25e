"""Spans: half-open ``[start, end)`` ranges in Unicode code points. All overlap logic lives here."""

from typing import NamedTuple


class Span(NamedTuple):
    """``[start, end)`` in code points of some text. Ordered by start, then end."""

    start: int
    end: int

    def shift(self, offset: int) -> "Span":
        """The same span in a text that begins ``offset`` code points earlier."""
        return Span(self.start + offset, self.end + offset)

    def overlaps(self, other: "Span") -> bool:
        """Whether the two share at least one code point; touching spans do not."""
        return self.start < other.end and other.start < self.end


class TypedSpan(NamedTuple):
    """A span and the entity type of the mention there. Ordered by start, then end, then type."""

    start: int
    end: int
    entity_type: str

    @property
    def span(self) -> Span:
        """The span alone."""
        return Span(self.start, self.end)


def trim(text: str, span: Span) -> Span:
    """``span`` without white space at its ends. If it has only white space: an empty span at its
    start."""
    # Looks at the ends alone and copies nothing, as a caller may cut a huge text piece by piece.
    start, end = span
    while start < end and text[start].isspace():
        start += 1
    if start == end:
        return Span(span.start, span.start)
    while text[end - 1].isspace():
        end -= 1
    return Span(start, end)
