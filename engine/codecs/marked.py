"""What a completion says, before it is held against the source."""

from dataclasses import dataclass

from schemas.spans import Span


@dataclass(frozen=True, slots=True)
class Mark:
    """One marked piece: its span in :attr:`Marked.text`, and where in the completion the markers
    stand that opened and closed it."""

    span: Span
    opened: Span
    closed: Span


@dataclass(frozen=True, slots=True)
class Marked:
    """``text`` is the completion without markers; ``faults`` names each mark that cannot count."""

    text: str
    marks: list[Mark]
    faults: list[str]
