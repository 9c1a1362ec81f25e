"""What the readers of corpora yield: texts with gold mentions, and faults.

These are records only. Left to others: reading (a module per format), and what becomes of a text
that has faults (:mod:`engine.corpora.examples`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from schemas.spans import Span, TypedSpan

REASONS = {
    "not UTF-8": "bytes that are not UTF-8",
    "malformed line": "a line that is none of the format",
    "malformed mention": "a mention without type or place",
    "malformed text": "a document without text, or with parts that contradict each other",
    "broken mark": "a marker cut short or glued to a word, as in `AKT</ma<mark>AKT`",
    "unbalanced marks": "a `<mark>` without `</mark>`, or the reverse",
    "empty mark": "a mark around nothing",
    "nested marks": "a mark within a mark",
    "mark within a word": "a mark in tokenised text that begins or ends inside a word",
    "text differs": "a mention whose text is not what stands at its offsets",
    "outside the text": "a mention whose offsets leave the text",
    "discontinuous mention": "a mention of several pieces",
    "repeated mention": "a mention given twice",
    "cut by a sentence's border": "a mention that begins in one sentence and ends in another",
    "repeated text": "a text that stands above it with the same mentions",
    "contradicted text": "a text that stands elsewhere in the corpus with other mentions",
    "unknown document": "a line of which it cannot be told whose split it belongs to",
}
"""Every reason for which a unit is quarantined or reported, and what it means."""


class Fault(NamedTuple):
    """One damaged part of a file.

    ``place`` is where in the file it is, ``reason`` a key of REASONS, ``found`` what was found (and
    expected). ``span`` is the part of the text that it concerns, null for all of it. After a
    ``fatal`` fault the gold cannot be told; after any other it can be told, but is in doubt.
    """

    place: str
    reason: str
    found: str
    span: Span | None = None
    fatal: bool = True


@dataclass(frozen=True, slots=True)
class AnnotatedText:
    """One text of a corpus with its gold mentions, under the corpus's own types.

    ``document`` is the corpus's own id of the text; several texts may share it. ``place`` is where
    in the file the text is. Mentions are ordered, distinct and lie within the text; ``unplaced``
    counts the file's other mentions, which have no such span. ``title_length`` is set for whole
    citations. ``count`` says what the file's offsets count, null for code points of the text.
    """

    document: str
    place: str
    text: str
    mentions: list[TypedSpan]
    unit: Literal["sentence", "citation"]
    pmid: int | None = None
    title_length: int | None = None
    faults: list[Fault] = field(default_factory=list)
    unplaced: int = 0
    form: Literal["raw", "tokenised"] = "raw"
    count: str | None = None


def unknown_count(place: str, wrong: int, mentions: int, faults: Sequence[Fault]) -> list[Fault]:
    """The fault of a document of which ``wrong`` of its ``mentions`` stand at their offsets in no
    count. If these are most, its gold cannot be told; none if they are not, or if one of its other
    ``faults`` says so already."""
    if 2 * wrong <= mentions or any(f.fatal and f.span is None for f in faults):
        return []
    found = (
        f"{wrong} of {mentions} mentions are not what stands at their offsets, whatever these are "
        "taken to count"
    )
    return [Fault(place, "text differs", found)]


def parse_pmid(document: str) -> int | None:
    """The PMID that a document's id is; None if it is no PMID."""
    if document.isascii() and document.isdigit() and 0 < int(document[:20]) < 2**63:
        return int(document)
    return None
