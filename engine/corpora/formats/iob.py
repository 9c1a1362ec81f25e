"""CoNLL columns: one token a line with its tag, an empty line after each sentence.

The first column is the token. The tags are in the last column that holds tags over the whole file,
as others may follow: in flair's files ``+`` or ``-``, which says whether a space stands after the
token. Columns are separated by tabs or, in a line without tabs, by spaces; any other white space is
part of a token. A tag is ``O``, or a prefix and a type. One rule reads IOB1, IOB2, IOBES and BILOU,
since no prefix means two things in them. A text is its tokens with one space between each two.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import IO, NamedTuple

from engine.corpora.formats.lines import read_lines
from engine.corpora.formats.texts import AnnotatedText, Fault
from engine.corpora.types import UNTYPED
from schemas.errors import DamagedSource
from schemas.spans import TypedSpan

_TAG = re.compile(r"O|([BIESLU])(?:-(.+))?")
_SPACES = re.compile(" +")
_DOCUMENT = "-DOCSTART-"
_COMMENT = "###"
_EXPECTED = "expected a token and a tag such as B-Disease, I-Disease or O"

Line = str | UnicodeDecodeError


class _Form(NamedTuple):
    """The form of a file's lines: how many columns most have, by what they are separated, and which
    column has the tags, counted from the end."""

    columns: int = 2
    by_tab: bool = False
    tag: int = -1


def read_iob(stream: IO[bytes], name: str) -> Iterator[AnnotatedText | Fault]:
    """Yield the sentences of a file (plain or gzip) in order.

    Mentions are those that conlleval counts: an ``I``, ``E`` or ``L`` after ``O``, after the end of
    a mention, or after another type begins a mention. Types that differ in case only are the same;
    tags without a type (``B``, ``I``) are of the type UNTYPED. A line without token and tag is a
    fatal fault of its sentence.

    A line that begins with ``-DOCSTART-``, or with ``###`` and is no token with its tag, begins a
    document; without such lines each sentence is a document, named by ``name`` and its first line's
    number.

    Raises:
        DamagedSource: where a gzip stream breaks.
    """
    lines: list[tuple[int, Line]] = []
    damage = None
    try:
        lines.extend(read_lines(stream))
    except DamagedSource as e:
        damage = e
    form = _tell_form([line for _, line in lines if isinstance(line, str)])
    rows: list[tuple[int, Line]] = []
    document = None
    for number, line in lines:
        border = isinstance(line, str) and _is_border(line, form)
        if isinstance(line, UnicodeDecodeError) or not (border or _is_empty(line)):
            rows.append((number, line))
            continue
        if rows:
            yield _parse(rows, form, name, document)
            rows = []
        if border:
            document = f"{name}:{number}"
    if rows:
        yield _parse(rows, form, name, document)
    if damage:
        raise damage


def is_iob(line: str) -> bool:
    """Whether a line is a token with its tag, last or of three columns in the middle; or begins a
    document."""
    columns, middle = _columns(line), _Form(3, tag=-2)
    return (
        line.startswith((_DOCUMENT, _COMMENT))
        or _parse_line(line, _Form()) is not None
        or (len(columns) == 3 and _parse_line(line, middle) is not None)
    )


def _is_empty(line: str) -> bool:
    # A column may hold a token that is white space, such as a no-break space.
    return not (line.strip(" \t\r") if "\t" in line else line.strip())


def _is_border(line: str, form: _Form) -> bool:
    if line.startswith(_DOCUMENT):
        return True
    if not line.startswith(_COMMENT):
        return False
    same = (len(_columns(line)), "\t" in line) == (form.columns, form.by_tab)
    return not same or _parse_line(line, form) is None


def _tell_form(lines: list[str]) -> _Form:
    """The form of most lines; the tags are in the last column of which at least half are tags."""
    rows = [
        (_columns(line), "\t" in line)
        for line in lines
        if not _is_empty(line) and not line.startswith((_DOCUMENT, _COMMENT))
    ]
    if not rows:
        return _Form()
    ((columns, by_tab), _), *_ = Counter((len(row), tab) for row, tab in rows).most_common()
    for tag in range(-1, -columns, -1):
        tags = sum(len(row) > -tag and _TAG.fullmatch(row[tag]) is not None for row, _ in rows)
        if 2 * tags >= len(rows):
            return _Form(columns, by_tab, tag)
    return _Form(columns, by_tab)


def _columns(line: str) -> list[str]:
    if "\t" in line:
        return [column.strip(" \r") for column in line.split("\t")]
    return _SPACES.split(line.strip(" \r"))


def _parse_line(line: str, form: _Form) -> tuple[str, tuple[str, str]] | None:
    """The token, and its tag as prefix and type; None if the line is not of the format."""
    columns = _columns(line)
    at = len(columns) + form.tag
    if at < 1:  # the columns after the tag are missing
        at = form.columns + form.tag
    match = _TAG.fullmatch(columns[at]) if columns[0] and 1 <= at < len(columns) else None
    return (columns[0], (match[1] or "O", match[2] or UNTYPED)) if match else None


def _parse(
    rows: list[tuple[int, Line]], form: _Form, name: str, document: str | None
) -> AnnotatedText:
    first = rows[0][0]
    tokens: list[str] = []
    tags: list[tuple[str, str]] = []
    faults: list[Fault] = []
    for number, line in rows:
        if isinstance(line, UnicodeDecodeError):
            faults.append(Fault(f"line {number}", "not UTF-8", str(line)))
            continue
        parsed = _parse_line(line, form)
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
        goes_on = prefix in "IEL" and before in "BI"
        if goes_on and mentions[-1].entity_type.casefold() == kind.casefold():
            mentions[-1] = mentions[-1]._replace(end=end)
        elif prefix != "O":
            mentions.append(TypedSpan(offset, end, kind))
        before = prefix
        offset = end + 1
    return mentions
