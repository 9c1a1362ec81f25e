"""CoNLL columns: a token a line with its tag, an empty line after each sentence.

The first column is the token, the last the tag; columns are parted by tabs, or else by white space.
Tags are ``O`` or a prefix and a type: IOB1, IOB2, IOBES and BILOU all, told apart by none of them
meaning something else in another. A text is its tokens with a space between each two.
"""

import re
from collections.abc import Iterator
from typing import IO

from engine.corpora.formats.lines import read_lines
from engine.corpora.formats.texts import AnnotatedText, Fault
from engine.corpora.types import UNTYPED
from schemas.spans import TypedSpan

_TAG = re.compile(r"O|([BIESLU])(?:-(.+))?")
_EXPECTED = "expected a token and a tag such as B-Disease, I-Disease or O"


def read_iob(stream: IO[bytes], name: str) -> Iterator[AnnotatedText | Fault]:
    """Yield the sentences of a file (plain or gzip) in order.

    Mentions are those that conlleval counts: ``I``, ``E`` or ``L`` after ``O``, after the end of a
    mention or after another type opens one. Tags without a type (``B``, ``I``) are of the type
    UNTYPED. A line without token and tag makes its sentence fatal.

    ``-DOCSTART-`` and lines that begin with ``###`` open a document; without them each sentence is
    its own.

    Raises:
        DamagedSource: where a gzip stream breaks.
    """
    rows: list[tuple[int, str | UnicodeDecodeError]] = []
    document = None
    for number, line in read_lines(stream):
        border = isinstance(line, str) and line.startswith(("-DOCSTART-", "###"))
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
        columns = [c.strip() for c in line.split("\t")] if "\t" in line else line.split()
        match = _TAG.fullmatch(columns[-1])
        if len(columns) < 2 or not columns[0] or match is None:
            faults.append(Fault(f"line {number}", "malformed line", f"{line:.80}, {_EXPECTED}"))
            continue
        tokens.append(columns[0])
        tags.append((match[1] or "O", match[2] or UNTYPED))
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
        goes_on = prefix in "IEL" and before in "BI" and mentions[-1].entity_type == kind
        if goes_on:
            mentions[-1] = TypedSpan(mentions[-1].start, end, kind)
        elif prefix != "O":
            mentions.append(TypedSpan(offset, end, kind))
        before = prefix
        offset = end + 1
    return mentions
