"""BioC, in XML and in JSON: documents of passages, whose offsets count from the document's start.

The title passage and the abstract passages make up a citation's text, laid out as ours are: title,
one space, abstract. Every other passage (of full text, or of a document without a title) is a text
of its own, with the document's id.

Files are read with lxml and json, not with the bioc package: that reads a file whole, and stops
with an internal exception where a mention lacks something.
"""

import json
from collections.abc import Iterator
from typing import IO, Any

from lxml import etree

from engine.corpora.formats.pieces import join_pieces
from engine.corpora.formats.texts import AnnotatedText, Fault, parse_pmid
from engine.storage.zipped import unzip
from schemas.errors import DamagedSource
from schemas.spans import Span, TypedSpan

_TITLE = ("title", "front")
_MAX_GAP = 100_000
"""Most spaces between two sentences, so that a wrong offset does not fill the memory with them."""


def read_bioc_xml(stream: IO[bytes]) -> Iterator[AnnotatedText | Fault]:
    """Yield the texts of a BioC XML file, document by document.

    Raises:
        DamagedSource: where the XML breaks off, or at its start if it is not BioC.
    """
    number = 0
    try:
        for _, element in etree.iterparse(
            unzip(stream), tag="document", resolve_entities=False, no_network=True
        ):
            number += 1
            yield from _read_document(_plain(element), f"document {number}")
            element.clear()
    except etree.XMLSyntaxError as e:
        raise DamagedSource(f"after document {number}", f"damaged XML: {e}") from e
    if not number:
        raise DamagedSource("at the end", "no element document, expected BioC")


def read_bioc_json(stream: IO[bytes]) -> Iterator[AnnotatedText | Fault]:
    """Yield the texts of a BioC JSON file: a collection, or one document.

    Raises:
        DamagedSource: if it is not JSON, or not BioC.
    """
    try:
        value = json.load(unzip(stream))
    except (ValueError, RecursionError) as e:
        raise DamagedSource("at the start", f"not JSON: {e}") from e
    documents = value.get("documents", [value]) if isinstance(value, dict) else None
    if not isinstance(documents, list):
        raise DamagedSource("at the start", "no documents, expected a BioC collection")
    for number, document in enumerate(documents, 1):
        yield from _read_document(document, f"document {number}")


def _plain(element: Any) -> dict[str, Any]:
    """An element of BioC XML as BioC JSON has it."""
    values: dict[str, Any] = {
        "id": element.get("id") or element.findtext("id"),
        "infons": {i.get("key"): i.text or "" for i in element.findall("infon")},
        "offset": element.findtext("offset"),
        "text": element.findtext("text"),
        "locations": [dict(location.attrib) for location in element.findall("location")],
    }
    for name in ("passage", "sentence", "annotation"):
        values[f"{name}s"] = [_plain(part) for part in element.findall(name)]
    return values


def _read_document(document: Any, place: str) -> Iterator[AnnotatedText | Fault]:
    try:
        number = str(document["id"])
        place = f"document {number}"
        passages = [_Passage(p) for p in document["passages"]]
        citation: list[_Passage] = []
        others: list[_Passage] = []
        for p in passages:
            follows = citation and p.kind.startswith("abstract")
            (citation if follows or (not citation and p.kind in _TITLE) else others).append(p)
        groups = [citation] if citation else []
        groups += [[p] for p in others if p.text.strip()]
        loose = [a for p in document["passages"] for a in _annotations(p)]
        loose += document.get("annotations") or []
        texts = [_Text(group, bool(citation) and group is citation) for group in groups]
        annotations = _assign(loose, texts)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        found = f"{type(e).__name__}: {e}, expected id, passages with offset and text"
        yield Fault(place, "malformed text", found)
        return
    if not texts:
        yield Fault(place, "malformed text", "no text, expected passages with text")
    for text, own in zip(texts, annotations, strict=True):
        yield _annotate(text, own, number, place)


class _Passage:
    """A passage's text, made of its sentences if it has only those, and the offset of its start."""

    def __init__(self, passage: Any):
        infons = passage.get("infons") or {}
        self.kind = str(infons.get("type") or infons.get("section_type") or "").lower()
        self.start = int(passage["offset"])
        text = passage.get("text") or ""
        if not text:
            for sentence in passage.get("sentences") or []:
                gap = int(sentence["offset"]) - self.start - len(text)
                if not 0 <= gap <= _MAX_GAP:
                    raise ValueError(
                        f"sentence at {sentence['offset']}, {gap} after the one before"
                    )
                text += " " * gap + (sentence.get("text") or "")
        self.text = text


class _Text:
    """One text of ours, made of passages, and how the document's offsets map to its own."""

    def __init__(self, passages: list[_Passage], is_citation: bool):
        self.text = ""
        # Each passage's span in the document's offsets, and what to add to them.
        self.parts: list[tuple[Span, int]] = []
        self.title_length = 0
        for p in passages:
            start = len(self.text) + bool(self.parts)
            if self.parts and p.text:
                self.text += " "
            self.text += p.text
            self.parts.append((Span(p.start, p.start + len(p.text)), start - p.start))
            if len(self.parts) == 1:
                self.title_length = len(self.text)
        self.is_citation = is_citation

    def holds(self, span: Span) -> bool:
        return any(part.overlaps(span) for part, _ in self.parts)

    def shift(self, span: Span) -> Span | None:
        """A span of the document in this text's offsets; None if no passage holds all of it."""
        for part, by in self.parts:
            if part.start <= span.start and span.end <= part.end:
                return span.shift(by)
        return None


def _annotations(passage: Any) -> list[Any]:
    annotations = list(passage.get("annotations") or [])
    for sentence in passage.get("sentences") or []:
        annotations += sentence.get("annotations") or []
    return annotations


def _assign(annotations: list[Any], texts: list[_Text]) -> list[list[Any]]:
    """For each text, the annotations that lie in it; those that lie in none go to the first."""
    assigned: list[list[Any]] = [[] for _ in texts]
    for annotation in annotations:
        spans = _spans(annotation) or []
        owner = next((i for i, t in enumerate(texts) if any(t.holds(s) for s in spans)), 0)
        if texts:
            assigned[owner].append(annotation)
    return assigned


def _spans(annotation: Any) -> list[Span] | None:
    """An annotation's spans in the document's offsets; None if it has no valid locations."""
    try:
        locations = [(int(p["offset"]), int(p["length"])) for p in annotation["locations"]]
    except (KeyError, TypeError, ValueError):
        return None
    return [Span(start, start + length) for start, length in locations]


def _annotate(text: _Text, annotations: list[Any], document: str, place: str) -> AnnotatedText:
    mentions: list[TypedSpan] = []
    faults: list[Fault] = []
    unplaced = 0
    for annotation in annotations:
        spans = _spans(annotation)
        infons = annotation.get("infons") if isinstance(annotation, dict) else None
        kind = infons.get("type") if isinstance(infons, dict) else None
        if spans is None or not spans or not isinstance(kind, str) or not kind:
            found = f"{annotation!r:.200}, expected an annotation with a type and locations"
            faults.append(Fault(place, "malformed mention", found))
            unplaced += 1
            continue
        where = f"{place}, annotation {annotation.get('id')}"
        pieces = [piece for span in spans if (piece := text.shift(span))]
        surface = annotation.get("text")
        if len(pieces) < len(spans):
            shown = ", ".join(f"{s.start}-{s.end}" for s in spans)
            faults.append(Fault(where, "outside the text", f"{surface!r:.80} at {shown}"))
            unplaced += 1
            continue
        if surface is None:
            surface = " ".join(text.text[p.start : p.end] for p in pieces)
        mention, fault = join_pieces(text.text, pieces, str(surface), kind, where)
        if mention in mentions:
            mention, fault = (
                None,
                Fault(where, "repeated mention", f"{surface!r:.80}", pieces[0], False),
            )
        if fault:
            faults.append(fault)
        if mention is None:
            unplaced += 1
        else:
            mentions.append(mention)
    return AnnotatedText(
        document,
        place,
        text.text,
        sorted(mentions),
        "citation",
        parse_pmid(document),
        text.title_length,
        faults,
        unplaced,
    )
