"""PubTator: ``PMID|t|title``, ``PMID|a|abstract``, then a tab-separated line per mention.

Offsets count code points of title, one space and abstract, which is how our texts are laid out too;
files in which they count something else are read too.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import IO, NamedTuple

from engine.corpora.formats.counts import Claim, displaced, tell_count
from engine.corpora.formats.lines import read_lines
from engine.corpora.formats.texts import AnnotatedText, Fault, parse_pmid, unknown_count
from engine.steps.sentences import split_sentences
from schemas.spans import Span, TypedSpan

_TEXT = re.compile(r"([^|\t]+)\|([ta])\|(.*)", re.DOTALL)
_NUMBER = re.compile(r"[0-9]{1,9}")
# Where a relation has its name, a mention has a number, if it is not damaged.
_NO_NAME = re.compile(r"\s*([-+−]?[0-9]+([.,][0-9]+)?)?\s*")
# PMID, start, end, text and type; an identifier may follow, and after several identifiers the parts
# of the text that each of them names.
_MENTION_COLUMNS = range(5, 8)


class _Row(NamedTuple):
    """A line's mention as it stands in the file."""

    place: str
    span: Span
    surface: str
    entity_type: str


def read_pubtator(stream: IO[bytes]) -> Iterator[AnnotatedText | Fault]:
    """Yield the blocks of a file (plain or gzip) in order, each a whole citation.

    A mention whose text differs from the text at its offsets is kept at its offsets, with a fault
    that is not fatal; so is every place where the mention's text occurs unmarked, since that may be
    meant. Where all of a block's mentions stand at their offsets in another count
    (:mod:`engine.corpora.formats.counts`), they are read so; where most stand at them in none, that
    is fatal. A mention outside the text, or a line that the format does not have, is a fatal fault
    of the whole block, since it cannot be told where the mention belongs. A block without an
    abstract is its title alone. Relations are passed over, whatever their name: they are the lines
    of which the second column is no number.

    Raises:
        DamagedSource: where a gzip stream breaks.
    """
    block: list[tuple[int, str | UnicodeDecodeError]] = []
    over = False
    for number, line in read_lines(stream):
        if isinstance(line, str) and not line.strip():
            over = True
            continue
        # Some files have no empty line between blocks, and some have one within a block.
        begins = isinstance(line, str) and is_title(line)
        if block and (begins or (over and not _continues(block, line))):
            yield _parse(block)
            block = []
        over = False
        block.append((number, line))
    if block:
        yield _parse(block)


def is_title(line: str) -> bool:
    """Whether a line is ``PMID|t|title``, with which every block begins."""
    match = _TEXT.fullmatch(line)
    return match is not None and match[2] == "t"


def _continues(
    block: list[tuple[int, str | UnicodeDecodeError]], line: str | UnicodeDecodeError
) -> bool:
    """Whether a line after an empty one is of the document before: its abstract, or a mention."""
    first = block[0][1]
    if isinstance(first, UnicodeDecodeError) or isinstance(line, UnicodeDecodeError):
        return False
    title = _TEXT.fullmatch(first)
    return title is not None and line.startswith((f"{title[1]}\t", f"{title[1]}|a|"))


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
    place = f"{first}, document {document}"
    read: list[_Row] = []
    unplaced = 0
    for number, row in rows:
        match _parse_row(row, f"line {number}, document {document}", document, text):
            case _Row() as given:
                read.append(given)
            case Fault() as fault:
                unplaced += 1
                faults.append(fault)
            case None:
                pass
    read, count, wrong = _recount(read, title, abstract)
    mentions: list[TypedSpan] = []
    astray: list[tuple[str, str]] = []  # place in the file, and text, of what differs
    for row_place, span, surface, kind in read:
        if not span.start < span.end <= len(text):
            found = f"{surface!r} at {span.start}-{span.end} of {len(text)} code points"
            faults.append(Fault(row_place, "outside the text", found))
            unplaced += 1
            continue
        mentions.append(TypedSpan(*span, kind))
        here = text[span.start : span.end]
        if here != surface:
            found = f"{surface!r} at {span.start}-{span.end}, where {here!r} stands"
            faults.append(Fault(row_place, "text differs", found, span, False))
            astray.append((row_place, surface))
    faults += _unmarked(text, [m.span for m in mentions], astray)
    for mention, times in Counter(mentions).items():
        if times > 1:
            found = f"{text[mention.start : mention.end]!r} at {mention.start}, {times} times"
            faults.append(Fault(place, "repeated mention", found, mention.span, False))
            unplaced += times - 1
    faults += unknown_count(place, wrong, len(read), faults)
    return AnnotatedText(
        document,
        place,
        text,
        sorted(set(mentions)),
        "citation",
        parse_pmid(document),
        len(title),
        faults,
        unplaced,
        count=count,
    )


def _recount(rows: list[_Row], title: str, abstract: str) -> tuple[list[_Row], str | None, int]:
    """The mentions in code points of the text; the count that their offsets are in, None if they
    are in code points; and how many do not stand at their offsets in any count."""
    # A line's end stands between title and abstract, so that one or two units may count for it.
    text = f"{title}\n{abstract}" if abstract else title
    claims = [Claim([row.span], row.surface or None, row.entity_type) for row in rows]
    if not displaced(text, claims, strictly=True):
        return rows, None, 0
    passages = [Span(0, len(title)), Span(len(title) + 1, len(text))][: 1 + bool(abstract)]
    sentences = split_sentences(text.replace("\n", " "), len(title))
    reading = tell_count(text, claims, {"passage": passages, "sentence": sentences})
    if reading is None:
        return rows, None, displaced(text, claims)
    placed = [row._replace(span=p[0]) for row, p in zip(rows, reading.pieces, strict=True)]
    return placed, str(reading.count), 0


def _parse_row(row: list[str], place: str, document: str, text: str) -> _Row | Fault | None:
    """The line's mention, its fault, or None for a relation."""
    shown = " ".join(row)[:80]
    if row[0] != document:
        found = f"{shown!r}, expected a mention of document {document}"
        return Fault(place, "malformed line", found)
    if len(row) > 2 and not _NO_NAME.fullmatch(row[1]) and not _lacks_start(row, text):
        return None
    numbers = len(row) > 2 and _NUMBER.fullmatch(row[1]) and _NUMBER.fullmatch(row[2])
    if not numbers or len(row) not in _MENTION_COLUMNS or not row[4].strip():
        expected = "expected PMID, start, end, text, type and at most an identifier, by tabs"
        return Fault(place, "malformed line", f"{shown!r}, {expected}")
    return _Row(place, Span(int(row[1]), int(row[2])), row[3], row[4].strip())


def _lacks_start(row: list[str], text: str) -> bool:
    """Whether a line is a mention but for its start: its text ends where its end says."""
    return (
        len(row) in _MENTION_COLUMNS
        and _NUMBER.fullmatch(row[2]) is not None
        and bool(row[3].strip())
        and text[: int(row[2])].endswith(row[3])
    )


def _unmarked(text: str, covered: list[Span], astray: list[tuple[str, str]]) -> Iterator[Fault]:
    """A fault for each place where the text of a mention that differs stands without a mark."""
    for place, surface in astray:
        for span in _occurrences(text, surface):
            if not any(span.overlaps(c) for c in covered):
                found = f"{surface!r} unmarked at {span.start}-{span.end}"
                yield Fault(place, "text differs", found, span, False)


def _occurrences(text: str, surface: str) -> Iterator[Span]:
    at = text.find(surface) if surface.strip() else -1
    while at >= 0:
        yield Span(at, at + len(surface))
        at = text.find(surface, at + len(surface))
