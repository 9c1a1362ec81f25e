"""CoNLL columns: one token a line with its tag, an empty line after each sentence.

The first column is the token, the last one the tag; columns are separated by tabs or, in a line
without tabs, by white space. A tag is ``O``, or a prefix and a type. One rule reads IOB1, IOB2,
IOBES and BILOU, since no prefix means two things in them. A text is its tokens with one space
between each two.
"""

import re
from collections.abc import Iterator
from typing import IO

from engine.corpora.formats.lines import read_lines
from engine.corpora.formats.texts import AnnotatedText, Fault
from engine.corpora.types import UNTYPED
from schemas.spans import TypedSpan

_TAG = re.compile(r"O|([BIESLU])(?:-(.+))?")
_BORDERS = ("-DOCSTART-", "###")
_EXPECTED = "expected a token and a tag such as B-Disease, I-Disease or O"


def read_iob(stream: IO[bytes], name: str) -> Iterator[AnnotatedText | Fault]:
    """Yield the sentences of a file (plain or gzip) in order.

    Mentions are those that conlleval counts: an ``I``, ``E`` or ``L`` after ``O``, after the end of
    a mention, or after another type begins a mention. Tags without a type (``B``, ``I``) are of the
    type UNTYPED. A line without token and tag is a fatal fault of its sentence.

    A line that begins with ``-DOCSTART-`` or ``###`` begins a document; without such lines each
    sentence is a document, named by ``name`` and its first line's number.

    Raises:
        DamagedSource: where a gzip stream breaks.
    """
    rows: list[tuple[int, str | UnicodeDecodeError]] = []
    document = None
    for number, line in read_lines(stream):
        border = isinstance(line, str) and line.startswith(_BORDERS)
        if isinstance(line, UnicodeDecodeError) or (line.strip() and not border):
            rows.append((number, line))
            continue
        if rows:
            yield _parse(rows, name, document)
            rows = []
        if border:
            document = f"{name}:{number}"
    if rows:
        yield _parse(rows, name, document)


def is_iob(line: str) -> bool:
    """Whether a line is a token with its tag, or begins a document."""
    return line.startswith(_BORDERS) or _parse_line(line) is not None


def _parse_line(line: str) -> tuple[str, tuple[str, str]] | None:
    """The token, and its tag as prefix and type; None if the line is not of the format."""
    columns = [c.strip() for c in line.split("\t")] if "\t" in line else line.split()
    match = _TAG.fullmatch(columns[-1]) if len(columns) > 1 and columns[0] else None
    return (columns[0], (match[1] or "O", match[2] or UNTYPED)) if match else None


def _parse(
    rows: list[tuple[int, str | UnicodeDecodeError]], name: str, document: str | None
) -> AnnotatedText:
    first = rows[0][0]
    tokens: list[str] = []
    tags: list[tuple[str, str]] = []
    faults: list[Fault] = []
    for number, line in rows:
        if isinstance(line, UnicodeDecodeError):
            faults.append(Fault(f"line {number}", "not UTF-8", str(line)))
            continue
        parsed = _parse_line(line)
        if parsed is None:
            faults.append(Fault(f"line {number}", "malformed line", f"{line:.80}, {_EXPECTED}"))
            continue
        tokens.append(parsed[0])
        tags.append(parsed[1])
    return AnnotatedText(
        document or f"{name}:{first}",
        f"line {first}",
        " ".join(tokens),
        _mentions(tokens, tags),
        "sentence",
        faults=faults,
        form="tokenised",
    )


def _mentions(tokens: list[str], tags: list[tuple[str, str]]) -> list[TypedSpan]:
    mentions: list[TypedSpan] = []
    offset = 0
    before = "O"
    for token, (prefix, kind) in zip(tokens, tags, strict=True):
        end = offset + len(token)
        if prefix in "IEL" and before in "BI" and mentions[-1].entity_type == kind:
            mentions[-1] = TypedSpan(mentions[-1].start, end, kind)
        elif prefix != "O":
            mentions.append(TypedSpan(offset, end, kind))
        before = prefix
        offset = end + 1
    return mentions
