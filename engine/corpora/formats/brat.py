"""brat standoff: a text in ``NAME.txt``, its mentions in ``NAME.ann``.

Offsets count code points of the text file as it is. Each line end within the text becomes a space,
so that offsets stay valid. The first line is the title.
"""

import re
from collections.abc import Iterator

from engine.corpora.formats.pieces import join_pieces
from engine.corpora.formats.texts import AnnotatedText, Fault, parse_pmid
from schemas.spans import Span, TypedSpan

_MENTION = re.compile(r"T\S*\t(\S+) ([0-9]+ [0-9]+(?:;[0-9]+ [0-9]+)*)\t(.*)")
# Events, relations, attributes, normalisations, notes.
_OTHER = re.compile(r"[ERAMN#*]")
_LINE_ENDS = re.compile(r"[\r\n\t]")


def read_brat(name: str, text: bytes, annotations: bytes | None) -> Iterator[AnnotatedText | Fault]:
    """Yield the one text of a pair of files, or the fault for which there is none.

    ``name`` is the files' name with folders, without ending; it is the document's id too. Only
    text-bound annotations are read. A line that the format does not have, or a mention outside the
    text, is a fatal fault of the text.
    """
    if annotations is None:
        yield Fault(f"{name}.txt", "malformed text", f"no {name}.ann beside it")
        return
    try:
        whole = text.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as e:
        yield Fault(f"{name}.txt", "not UTF-8", str(e))
        return
    body = whole.rstrip()
    if not body:
        yield Fault(f"{name}.txt", "malformed text", "is empty, expected a text")
        return
    body = _LINE_ENDS.sub(" ", body)
    title_length = next((m.start() for m in re.finditer(r"\r?\n", whole)), len(body))
    mentions, faults, unplaced = _read_mentions(name, body, annotations)
    yield AnnotatedText(
        name,
        f"{name}.txt",
        body,
        sorted(mentions),
        "citation",
        parse_pmid(name.rsplit("/", 1)[-1]),
        min(title_length, len(body)),
        faults,
        unplaced,
    )


def _read_mentions(
    name: str, text: str, annotations: bytes
) -> tuple[list[TypedSpan], list[Fault], int]:
    """The mentions of a file of annotations, its faults, and how many mentions have no span."""
    mentions: list[TypedSpan] = []
    faults: list[Fault] = []
    unplaced = 0
    for number, raw in enumerate(annotations.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        place = f"{name}.ann, line {number}"
        try:
            line = raw.decode().rstrip("\r\n")
        except UnicodeDecodeError as e:
            faults.append(Fault(place, "not UTF-8", str(e)))
            unplaced += 1
            continue
        if not line.strip() or _OTHER.match(line):
            continue
        if (match := _MENTION.fullmatch(line)) is None:
            found = f"{line:.80}, expected T1, type, start and end, text"
            faults.append(Fault(place, "malformed line", found))
            unplaced += line.startswith("T")
            continue
        pieces = [Span(*map(int, piece.split())) for piece in match[2].split(";")]
        mention, fault = join_pieces(text, pieces, match[3], match[1], place)
        if fault:
            faults.append(fault)
        if mention is None:
            unplaced += 1
        elif mention in mentions:
            faults.append(Fault(place, "repeated mention", line[:80], mention.span, False))
            unplaced += 1
        else:
            mentions.append(mention)
    return mentions, faults, unplaced
