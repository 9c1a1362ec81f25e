"""PubTator: ``PMID|t|title``, ``PMID|a|abstract``, then a tab-separated line per mention.

Offsets count code points of title, one space and abstract, which is how our texts are laid out too.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import IO

from engine.corpora.formats.lines import read_lines
from engine.corpora.formats.texts import AnnotatedText, Fault, parse_pmid
from schemas.spans import Span, TypedSpan

_TEXT = re.compile(r"([^|\t]+)\|([ta])\|(.*)", re.DOTALL)
_NUMBER = re.compile(r"[0-9]{1,9}")
# PMID, start, end, text and type; an identifier may follow, and after several identifiers the parts
# of the text that each of them names.
_MENTION_COLUMNS = range(5, 8)
# PMID, relation, identifier, identifier: lines at the end of a block in BC5CDR and BioRED.
_RELATION_COLUMNS = range(4, 6)
_RELATION = re.compile(r"[A-Z][A-Za-z_]+")


def read_pubtator(stream: IO[bytes]) -> Iterator[AnnotatedText | Fault]:
    """Yield the blocks of a file (plain or gzip) in order, each a whole citation.

    A mention whose text differs from the text at its offsets is kept at its offsets, with a fault
    that is not fatal; so is every place where the mention's text occurs unmarked, since that may be
    meant. A mention outside the text, or a line that the format does not have, is a fatal fault of
    the whole block, since it cannot be told where the mention belongs. A block without an abstract
    is its title alone. Relations are passed over.

    Raises:
        DamagedSource: where a gzip stream breaks.
    """
    block: list[tuple[int, str | UnicodeDecodeError]] = []
    for number, line in read_lines(stream):
        empty = isinstance(line, str) and not line.strip()
        # Some files have no empty line between blocks.
        if block and (empty or (isinstance(line, str) and is_title(line))):
            yield _parse(block)
            block = []
        if not empty:
            block.append((number, line))
    if block:
        yield _parse(block)


def is_title(line: str) -> bool:
    """Whether a line is ``PMID|t|title``, with which every block begins."""
    match = _TEXT.fullmatch(line)
    return match is not None and match[2] == "t"


def _parse(block: list[tuple[int, str | UnicodeDecodeError]]) -> AnnotatedText | Fault:
    parts: dict[str, str] = {}
    document = None
    rows: list[tuple[int, list[str]]] = []
    faults: list[Fault] = []
    first = f"line {block[0][0]}"
    for number, line in block:
        place = f"line {number}" if document is None else f"line {number}, document {document}"
        if isinstance(line, UnicodeDecodeError):
            faults.append(Fault(place, "not UTF-8", str(line)))
        elif match := _TEXT.fullmatch(line):
            if match[2] in parts or document not in (None, match[1]):
                found = f"{line:.80}, expected one title and one abstract of one document"
                return Fault(place, "malformed text", found)
            document = match[1]
            parts[match[2]] = match[3]
        else:
            rows.append((number, line.split("\t")))
    if document is None or "t" not in parts:
        return Fault(first, "malformed text", f"{block[0][1]!s:.80}, expected PMID|t|title")
    title, abstract = parts["t"], parts.get("a", "")
    text = f"{title} {abstract}" if abstract else title
    mentions: list[TypedSpan] = []
    displaced: list[tuple[str, str]] = []  # place in the file, and text, of what differs
    unplaced = 0
    for number, row in rows:
        place = f"line {number}, document {document}"
        match _parse_row(row, document, text):
            case TypedSpan() as mention:
                mentions.append(mention)
                here = text[mention.start : mention.end]
                if here != row[3]:
                    found = f"{row[3]!r} at {mention.start}-{mention.end}, where {here!r} stands"
                    faults.append(Fault(place, "text differs", found, mention.span, False))
                    displaced.append((place, row[3]))
            case (reason, found):
                unplaced += 1
                faults.append(Fault(place, reason, found))
            case None:
                pass
    covered = [m.span for m in mentions]
    for place, surface in displaced:
        for span in _occurrences(text, surface):
            if not any(span.overlaps(c) for c in covered):
                found = f"{surface!r} unmarked at {span.start}-{span.end}"
                faults.append(Fault(place, "text differs", found, span, False))
    for mention, count in Counter(mentions).items():
        if count > 1:
            found = f"{text[mention.start : mention.end]!r} at {mention.start}, {count} times"
            place = f"{first}, document {document}"
            faults.append(Fault(place, "repeated mention", found, mention.span, False))
            unplaced += count - 1
    return AnnotatedText(
        document,
        f"{first}, document {document}",
        text,
        sorted(set(mentions)),
        "citation",
        parse_pmid(document),
        len(title),
        faults,
        unplaced,
    )


def _parse_row(row: list[str], document: str, text: str) -> TypedSpan | tuple[str, str] | None:
    """The mention; a fault's reason and what was found; or None for a relation."""
    shown = " ".join(row)[:80]
    if row[0] != document:
        return "malformed line", f"{shown!r}, expected a mention of document {document}"
    numbers = len(row) > 2 and _NUMBER.fullmatch(row[1]) and _NUMBER.fullmatch(row[2])
    if len(row) in _RELATION_COLUMNS and _RELATION.fullmatch(row[1]):
        return None
    if not numbers or len(row) not in _MENTION_COLUMNS or not row[4].strip():
        expected = "expected PMID, start, end, text, type and at most an identifier, by tabs"
        return "malformed line", f"{shown!r}, {expected}"
    start, end = int(row[1]), int(row[2])
    if not start < end <= len(text):
        return "outside the text", f"{row[3]!r} at {start}-{end} of {len(text)} code points"
    return TypedSpan(start, end, row[4].strip())


def _occurrences(text: str, surface: str) -> Iterator[Span]:
    at = text.find(surface) if surface.strip() else -1
    while at >= 0:
        yield Span(at, at + len(surface))
        at = text.find(surface, at + len(surface))
