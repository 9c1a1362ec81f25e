"""Lines of text with mentions between ``<mark>`` and ``</mark>``, as BioNER-LLaMA publishes them.

Each line is one sentence, and a document of its own, as the format has no document borders. The
file does not name the type of its mentions.
"""

import re
from collections.abc import Iterator
from typing import IO

from engine.corpora.formats.lines import read_lines
from engine.corpora.formats.texts import AnnotatedText, Fault
from engine.corpora.types import UNTYPED
from schemas.spans import Span, TypedSpan

_MARKER = re.compile(r"</?mark>")
# Remains of a marker into which another one was written.
_REMNANT = re.compile(r"</m|<mar|/mark|mark>")


def read_marked(stream: IO[bytes], name: str, tokenised: bool) -> Iterator[AnnotatedText | Fault]:
    """Yield the lines of a file (plain or gzip) in order, without empty ones.

    Markers that do not pair, are broken or enclose nothing are fatal faults of their line. Nested
    marks, and in tokenised text marks that begin or end inside a word, tell the gold but leave it
    in doubt, since the files were made by marking the *first* occurrence of a mention's text. In
    all 30 nested lines whose documents are at hand, a mark is not where the document has its
    mention, which is unmarked further on; of 24,722 other lines, that is so in 32
    (bench/corpora.py).
    """
    for number, line in read_lines(stream):
        place = f"line {number}"
        if isinstance(line, UnicodeDecodeError):
            yield Fault(place, "not UTF-8", str(line))
        elif line.strip():
            yield _parse(line.strip(), f"{name}:{number}", place, tokenised)


def _parse(line: str, document: str, place: str, tokenised: bool) -> AnnotatedText:
    pieces: list[str] = []
    mentions: list[TypedSpan] = []
    opened: list[int] = []
    reasons: set[str] = set()
    length = end = 0
    for marker in _MARKER.finditer(line):
        pieces.append(line[end : marker.start()])
        length += marker.start() - end
        end = marker.end()
        if marker[0] == "<mark>":
            if opened:
                reasons.add("nested marks")
            opened.append(length)
        elif not opened:
            reasons.add("unbalanced marks")
        elif (start := opened.pop()) == length:
            reasons.add("empty mark")
        else:
            mentions.append(TypedSpan(start, length, UNTYPED))
    pieces.append(line[end:])
    text = "".join(pieces)
    if opened:
        reasons.add("unbalanced marks")
    if any(_REMNANT.search(piece) for piece in pieces):
        reasons.add("broken mark")
    if len(set(mentions)) < len(mentions):
        reasons.add("repeated mention")
    if tokenised and any(_cuts_a_word(text, m.span) for m in mentions):
        reasons.add("mark within a word")
    doubts = {"nested marks", "mark within a word", "repeated mention"}
    # Only the first fatal reason, or else the first doubt, so that a line is counted once.
    faults = [
        Fault(place, reason, line, None, reason not in doubts)
        for reason in sorted(reasons, key=lambda r: (r in doubts, r))
    ][:1]
    distinct = sorted(set(mentions))
    unplaced = line.count("<mark>") - len(distinct)
    return AnnotatedText(
        document,
        place,
        text,
        distinct,
        "sentence",
        faults=faults,
        unplaced=unplaced,
        form="tokenised" if tokenised else "raw",
    )


def _cuts_a_word(text: str, span: Span) -> bool:
    return _within_a_word(text, span.start) or _within_a_word(text, span.end)


def _within_a_word(text: str, offset: int) -> bool:
    return 0 < offset < len(text) and text[offset - 1].isalnum() and text[offset].isalnum()
