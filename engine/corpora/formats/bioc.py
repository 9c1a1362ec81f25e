"""BioC, in XML and in JSON: documents of passages, whose offsets count from the document's start.

The title passage and the abstract passages make up a citation's text, laid out as ours are: title,
one space, abstract. Every other passage (of full text, or of a document without a title) is a text
of its own, with the document's id.

Files are read with lxml and json, not with the bioc package: that reads a file whole, and stops
with an internal exception where a mention lacks something. Left to others: how JSON files wrap
documents (bioc_json.py), and where in a document's texts its mentions are (bioc_layout.py).
"""

from collections.abc import Iterator
from typing import IO, Any

from lxml import etree

from engine.corpora.formats.bioc_json import documents_of
from engine.corpora.formats.bioc_layout import Placed, Recounted, Text, recount
from engine.corpora.formats.counts import STANDARD
from engine.corpora.formats.pieces import join_pieces
from engine.corpora.formats.texts import AnnotatedText, Fault, parse_pmid, unknown_count
from engine.storage.zipped import unzip
from schemas.errors import DamagedSource
from schemas.spans import TypedSpan


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
    """Yield the texts of a BioC JSON file, in any of the forms that :func:`documents_of` knows.

    Raises:
        DamagedSource: if it is not JSON, or not BioC.
    """
    for number, document in enumerate(documents_of(unzip(stream)), 1):
        if isinstance(document, Fault):
            yield document
        else:
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
    """The texts of a document, in the count in which all its mentions stand at their offsets."""
    try:
        number = _name(document)
        place = f"document {number}"
        recounted = recount(document)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        found = f"{type(e).__name__}: {e}, expected id, passages with offset and text"
        yield Fault(place, "malformed text", found)
        return
    if not recounted.layout:
        yield Fault(place, "malformed text", "no text, expected passages with text")
    for text, own in recounted.layout:
        yield _annotate(text, own, number, place, recounted)


def _name(document: Any) -> str:
    """A document's id; where it is only in MongoDB's key, as in ``99|None``, from there."""
    if document.get("id") is None and "_id" in document:
        return str(document["_id"]).split("|")[0]
    return str(document["id"])


def _annotate(
    text: Text, annotations: list[Placed], document: str, place: str, recounted: Recounted
) -> AnnotatedText:
    mentions: list[TypedSpan] = []
    faults: list[Fault] = []
    unplaced = 0
    for annotation, claim, pieces in annotations:
        if claim is None:
            found = f"{annotation!r:.200}, expected an annotation with a type and locations"
            faults.append(Fault(place, "malformed mention", found))
            unplaced += 1
            continue
        where = f"{place}, annotation {annotation.get('id')}"
        surface = claim.surface
        if len(pieces) < len(claim.pieces):
            shown = ", ".join(f"{s.start}-{s.end}" for s in claim.pieces)
            faults.append(Fault(where, "outside the text", f"{surface!r:.80} at {shown}"))
            unplaced += 1
            continue
        if surface is None:
            surface = " ".join(text.text[p.start : p.end] for p in pieces)
        mention, fault = join_pieces(text.text, pieces, surface, claim.entity_type, where)
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
    faults += unknown_count(place, recounted.wrong, recounted.mentions, faults)
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
        count=None if recounted.count == STANDARD else str(recounted.count),
    )
