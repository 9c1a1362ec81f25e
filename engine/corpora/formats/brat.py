"""brat standoff: a text in ``NAME.txt``, its mentions in ``NAME.ann``.

Offsets count code points of the text file as it is; files in which they count something else are
read too (:mod:`engine.corpora.formats.counts`). Each line end within the text becomes a space, so
that offsets stay valid. The first line is the title.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from engine.corpora.formats.counts import BOM, Claim, Reading, displaced, tell_count
from engine.corpora.formats.pieces import join_pieces
from engine.corpora.formats.texts import AnnotatedText, Fault, parse_pmid, unknown_count
from engine.steps.sentences import split_sentences
from schemas.spans import Span, TypedSpan

_MENTION = re.compile(r"T\S*\t(\S+) ([0-9]+ [0-9]+(?:;[0-9]+ [0-9]+)*)\t(.*)")
# Events, relations, attributes, normalisations, notes.
_OTHER = re.compile(r"[ERAMN#*]")
_LINE_ENDS = re.compile(r"[\r\n\t]")
_LINE_END = re.compile(r"\r?\n|\r")


class _Line(NamedTuple):
    """A mention as its line gives it."""

    place: str
    claim: Claim
    shown: str


def read_brat(name: str, text: bytes, annotations: bytes | None) -> Iterator[AnnotatedText | Fault]:
    """Yield the one text of a pair of files, or the fault for which there is none.

    ``name`` is the files' name with folders, without ending; it is the document's id too. Only
    text-bound annotations are read. A line that the format does not have, or a mention outside the
    text, is a fatal fault of the text, and so is it if most mentions stand at their offsets in no
    count.
    """
    if annotations is None:
        yield Fault(f"{name}.txt", "malformed text", f"no {name}.ann beside it")
        return
    try:
        whole = text.decode()
    except UnicodeDecodeError as e:
        yield Fault(f"{name}.txt", "not UTF-8", str(e))
        return
    has_bom = whole.startswith(BOM)
    written = whole.removeprefix(BOM).rstrip()
    if not written:
        yield Fault(f"{name}.txt", "malformed text", "is empty, expected a text")
        return
    body = _LINE_ENDS.sub(" ", written)
    title_length = next((m.start() for m in _LINE_END.finditer(written)), len(body))
    lines, faults, unplaced = _read_lines(name, annotations)
    reading, wrong = _recount(written, title_length, [line.claim for line in lines], has_bom)
    pieces = reading.pieces if reading else [list(line.claim.pieces) for line in lines]
    mentions: list[TypedSpan] = []
    for line, placed in zip(lines, pieces, strict=True):
        surface, kind = line.claim.surface or "", line.claim.entity_type
        mention, fault = join_pieces(body, placed, surface, kind, line.place)
        if fault:
            faults.append(fault)
        if mention is None:
            unplaced += 1
        elif mention in mentions:
            faults.append(Fault(line.place, "repeated mention", line.shown, mention.span, False))
            unplaced += 1
        else:
            mentions.append(mention)
    faults += unknown_count(f"{name}.ann", wrong, len(lines), faults)
    yield AnnotatedText(
        name,
        f"{name}.txt",
        body,
        sorted(mentions),
        "citation",
        parse_pmid(name.rsplit("/", 1)[-1]),
        title_length,
        faults,
        unplaced,
        count=str(reading.count) if reading else None,
    )


def _read_lines(name: str, annotations: bytes) -> tuple[list[_Line], list[Fault], int]:
    """The mentions of a file of annotations, its faults, and how many mentions cannot be read."""
    lines: list[_Line] = []
    faults: list[Fault] = []
    unread = 0
    for number, raw in enumerate(annotations.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        place = f"{name}.ann, line {number}"
        try:
            line = raw.decode().rstrip("\r\n")
        except UnicodeDecodeError as e:
            faults.append(Fault(place, "not UTF-8", str(e)))
            unread += 1
            continue
        if not line.strip() or _OTHER.match(line):
            continue
        if (match := _MENTION.fullmatch(line)) is None:
            found = f"{line:.80}, expected T1, type, start and end, text"
            faults.append(Fault(place, "malformed line", found))
            unread += line.startswith("T")
            continue
        pieces = [Span(*map(int, piece.split())) for piece in match[2].split(";")]
        lines.append(_Line(place, Claim(pieces, match[3] or None, match[1]), line[:80]))
    return lines, faults, unread


def _recount(
    written: str, title_length: int, claims: list[Claim], has_bom: bool
) -> tuple[Reading | None, int]:
    """The other count that offsets are in, None if there is none, and how many mentions do not
    stand at their offsets in any."""
    if not displaced(written, claims, strictly=True):
        return None, 0
    ends = [(m.start(), m.end()) for m in _LINE_END.finditer(written)]
    starts = [0, *(end for _, end in ends)]
    lines = [Span(*s) for s in zip(starts, [*(s for s, _ in ends), len(written)], strict=True)]
    sentences = split_sentences(_LINE_ENDS.sub(" ", written), title_length)
    reading = tell_count(written, claims, {"line": lines, "sentence": sentences}, has_bom)
    return reading, 0 if reading else displaced(written, claims)
