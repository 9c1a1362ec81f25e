"""PubMed XML to citations, in one streaming pass.

Enters: the bytes of a ``.xml`` or ``.xml.gz`` file. Leaves: citations, deletions and rejected
records in file order. Left to others: which of several records of a PMID counts.

XML is hostile until proven otherwise. Nothing is fetched, no DTD is loaded, a file that declares
entities of its own is refused, and a record may take at most MAX_RECORD_BYTES. Memory is bounded
by a record, whatever the size of the file.

Most of a file, such as its author lists, is not read here and does not reach the parser: skim.py
leaves it out, and says which faults in it therefore pass unnoticed.
"""

import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import IO

from isal import igzip
from isal.igzip_lib import IsalError
from lxml import etree

from engine.sources.skim import skim
from engine.storage.zipped import is_gzip
from schemas.citation import Citation, Deletion, Rejection, lay_out_text, squeeze
from schemas.errors import DamagedSource

MAX_RECORD_BYTES = 8 << 20
"""No real record comes near it: the longest author lists take some 3 MB."""

_CHUNK_BYTES = 1 << 17
_GZIP_FAULTS = {
    f"Error -3 while decompressing data: incorrect {what} check": said
    for what, said in {
        "data": "CRC check failed", "length": "wrong length",
        "header": "no gzip header where one should be",
    }.items()
}  # fmt: skip
_ROOTS = {
    "PubmedArticleSet", "PubmedBookArticleSet", "MedlineCitationSet",
    "PubmedArticle", "PubmedBookArticle", "MedlineCitation", "BookDocument",
}  # fmt: skip
_RECORDS = ("PubmedArticle", "PubmedBookArticle", "MedlineCitation", "BookDocument")
_ENTITY = re.compile(rb"&(?!amp;|lt;|gt;|quot;|#)[^;]*;")
_YEAR = re.compile(r"\b(1[5-9]|20)\d\d\b")
_INT16_MAX = 32767

Record = Citation | Deletion | Rejection


def read_pubmed_xml(stream: IO[bytes]) -> Iterator[Record]:
    """Yield the records of one file in order.

    Raises:
        DamagedSource: where the file can be read no further (not XML, broken XML, truncated
            gzip, own or undefined entities, an oversized record), once all good records before
            that place have been yielded.
    """
    parser = etree.XMLPullParser(
        ("end",),
        tag=(*_RECORDS, "DeleteCitation"),
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    read = pending = 0  # records so far; bytes fed since the last one ended
    last: int | None = None  # the PMID of the last citation
    checked = False  # whether the file is known to declare no entities
    damage: tuple[str, Exception | None] | None = None
    chunks = skim(_decompressed(stream))
    while True:
        try:
            chunk = next(chunks, b"")
            if chunk:
                parser.feed(chunk)
            else:
                root = parser.close()
        except (EOFError, zlib.error) as e:
            damage = (f"damaged gzip: {_GZIP_FAULTS.get(str(e), e)}", e)
        except etree.XMLSyntaxError as e:
            damage = (f"broken XML: {e}", e)
        # lxml raises nothing for an undefined entity, and after some errors it would take the next
        # bytes for a new file: its log has both.
        log = parser.feed_error_log
        if not damage and (fatal := next(iter(log.filter_from_fatals()), None)):
            damage = (f"broken XML: {fatal.message}", None)
        undefined = bool(log.filter_types(etree.ErrorTypes.WAR_UNDECLARED_ENTITY))
        pending += len(chunk) if not damage else 0
        for _, element in parser.read_events():
            if not checked:
                _refuse_entities(element)
                checked = True
            parent = element.getparent()
            if parent is not None and parent.tag in _RECORDS:
                continue  # a MedlineCitation in a PubmedArticle: read when the latter ends
            if undefined and (entity := _ENTITY.search(etree.tostring(element))):
                name = entity[0].decode()
                damage = (f"entity {name} of record {read + 1} is not defined in the file", None)
                break
            pending = 0
            if element.tag == "DeleteCitation":
                yield from _deletions(element)
            else:
                read += 1
                record = _record(element, read)
                last = record.pmid if isinstance(record, Citation) else last
                yield record
            _forget(element)
        if not damage and pending > MAX_RECORD_BYTES:
            damage = (f"a record of more than {MAX_RECORD_BYTES >> 20} MiB", None)
        if damage:
            place = f"after record {read}" + (f" (PMID {last})" if last else "")
            raise DamagedSource(place if read else "at the start", damage[0]) from damage[1]
        if not chunk:
            break
    if not read and root.tag not in _ROOTS:
        raise DamagedSource(
            "at the start", f"root element <{root.tag}>, expected <PubmedArticleSet> or the like"
        )


def _decompressed(stream: IO[bytes]) -> Iterator[bytes]:
    """The bytes of a file, unzipped if it is gzip, in pieces, up to where it is damaged.

    Raises:
        EOFError, zlib.error: where a gzip file is damaged, after every byte before that place.
    """
    if not is_gzip(stream):
        yield from _pieces(stream.read)
        return
    yielded = 0
    try:
        fast = igzip.IGzipFile(fileobj=stream)  # type: ignore[no-untyped-call]
        for piece in _pieces(fast.read1):
            yielded += len(piece)
            yield piece
        return
    except (OSError, EOFError, IsalError):  # type: ignore[misc]
        stream.seek(0)
    # isal is three times as fast as zlib, but where it meets damage it drops the bytes that it has
    # unzipped just before. So zlib reads the file again, for what has not been yielded yet.
    for piece in _inflated(stream):
        if len(piece) > yielded:
            yield piece[yielded:]
        yielded = max(0, yielded - len(piece))


def _inflated(stream: IO[bytes]) -> Iterator[bytes]:
    """Unzip all members of a gzip file, in pieces, up to the very byte where it is damaged.

    Python's gzip module would lose up to 128 KB before the damage, which zlib had unzipped already.

    Raises:
        zlib.error: where the file is damaged.
        EOFError: at its end, if it is cut off.
    """
    member, rest, first = None, b"", True
    while rest := rest or stream.read(_CHUNK_BYTES):
        if member is None:
            rest = rest if first else rest.lstrip(b"\0")  # zeros may follow a member
            if not rest:
                continue
            member, first = zlib.decompressobj(16 + zlib.MAX_WBITS), False
        before = member.copy()
        try:
            piece = member.decompress(rest, _CHUNK_BYTES)
        except zlib.error:
            # Byte by byte from the state before: whatever is whole comes out first.
            for i in range(len(rest)):
                yield before.decompress(rest[i : i + 1])
            raise
        rest = member.unconsumed_tail
        if member.eof:
            rest, member = member.unused_data, None
        yield piece
    if member is not None:
        yield member.flush()
        if not member.eof:
            raise EOFError("the file ends before its gzip data does")


def _pieces(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while piece := read(_CHUNK_BYTES):
        yield piece


def _refuse_entities(element: etree._Element) -> None:
    dtd = element.getroottree().docinfo.internalDTD
    if dtd is not None and (entity := next(iter(dtd.iterentities()), None)) is not None:
        raise DamagedSource(
            "at the start", f"declares entities of its own (&{entity.name};), which are refused"
        )


def _forget(element: etree._Element) -> None:
    """Free a record and its predecessors, so that memory does not grow with the file."""
    element.clear()
    parent = element.getparent()
    if parent is not None:
        while element.getprevious() is not None:
            del parent[0]


def _deletions(block: etree._Element) -> Iterator[Deletion | Rejection]:
    for number, pmid in enumerate(block.iterchildren("PMID"), 1):
        value = _positive_int(pmid.text)
        if value is None:
            yield Rejection(f"DeleteCitation, entry {number}", _bad_pmid(pmid.text))
        else:
            yield Deletion(value)


def _record(element: etree._Element, number: int) -> Citation | Rejection:
    body = element
    if element.tag == "PubmedArticle":
        body = _first(element, "MedlineCitation")
    elif element.tag == "PubmedBookArticle":
        body = _first(element, "BookDocument")
    if body is None:
        return Rejection(f"record {number}", f"<{element.tag}> without its citation element")
    # Only a direct child is the record's own PMID: references and corrections hold PMIDs too.
    pmid = _first(body, "PMID")
    value = _positive_int(pmid.text) if pmid is not None else None
    if value is None or pmid is None:
        return Rejection(f"record {number}", _bad_pmid(None if pmid is None else pmid.text))
    version = _positive_int(pmid.get("Version")) or 1
    version = min(version, _INT16_MAX)
    if body.tag == "BookDocument":
        return _book(body, value, version)
    return _article(element, body, value, version)


def _article(record: etree._Element, body: etree._Element, pmid: int, version: int) -> Citation:
    article = _first(body, "Article")
    if article is None:
        return Citation(pmid, "", 0, version)
    # One pass over the children, as looking each up by name takes four times as long. Where a name
    # repeats, the first child counts, except where all do.
    first: dict[str, etree._Element] = {}
    locations, publication_types = [], []
    for child in article:
        tag = child.tag
        if tag == "ELocationID":
            locations.append(child)
        elif tag == "PublicationTypeList":
            publication_types += child.iterchildren("PublicationType")
        elif tag not in first:
            first[tag] = child
    title = _content(first.get("ArticleTitle")) or _content(first.get("VernacularTitle"))
    text, title_length = lay_out_text(title, _abstract(first.get("Abstract")))
    journal = first.get("Journal")
    return Citation(
        pmid,
        text,
        title_length,
        version,
        pub_year=_year(
            _first(_first(journal, "JournalIssue"), "PubDate"), first.get("ArticleDate")
        ),
        journal=_content(_first(journal, "Title"))
        or _content(_first(journal, "ISOAbbreviation"))
        or _content(body.find("MedlineJournalInfo/MedlineTA"))
        or None,
        language=_content(first.get("Language")) or None,
        doi=_doi(locations, "EIdType")
        or _doi(
            (
                article_id
                for data in record.iterchildren("PubmedData")
                for ids in data.iterchildren("ArticleIdList")
                for article_id in ids.iterchildren("ArticleId")
            ),
            "IdType",
        ),
        publication_types=_publication_types(publication_types),
    )


def _book(body: etree._Element, pmid: int, version: int) -> Citation:
    title = (
        _content(_first(body, "ArticleTitle"))
        or _content(_first(body, "VernacularTitle"))
        or _content(body.find("Book/BookTitle"))
    )
    text, title_length = lay_out_text(title, _abstract(_first(body, "Abstract")))
    ids = [*body.iterfind("ArticleIdList/ArticleId"), *body.iterfind("Book/ELocationID")]
    return Citation(
        pmid,
        text,
        title_length,
        version,
        pub_year=_year(_first(body, "ContributionDate"), body.find("Book/PubDate")),
        journal=None,
        language=_content(_first(body, "Language")) or None,
        doi=_doi(ids, "IdType") or _doi(ids, "EIdType"),
        publication_types=_publication_types(body.iterchildren("PublicationType")),
    )


def _first(element: etree._Element | None, tag: str) -> etree._Element | None:
    """The first child of that name; None if there is none. The loop takes a fifth of the time of
    lxml's ``find``, as the children that are asked for stand near the front."""
    if element is not None:
        for child in element:
            if child.tag == tag:
                return child
    return None


def _content(element: etree._Element | None) -> str:
    """The text of an element with whitespace squeezed; empty if there is no element."""
    if element is None:
        return ""
    text = _raw_content(element)
    return squeeze(text) if len(text) > 64 else _squeeze_short(text)


# Journals, languages and publication types come again and again.
_squeeze_short = lru_cache(1 << 13)(squeeze)


def _raw_content(element: etree._Element) -> str:
    """The text of an element, inline tags dropped and nothing put in their place."""
    # Most elements hold plain text only, for which itertext is several times slower.
    return (element.text or "") if not len(element) else "".join(element.itertext())


def _abstract(abstract: etree._Element | None) -> list[tuple[str | None, str]]:
    """Label and text of each section of an abstract."""
    if abstract is None:
        return []
    return [(e.get("Label"), _raw_content(e)) for e in abstract.iterchildren("AbstractText")]


def _year(*dates: etree._Element | None) -> int | None:
    """The year of the first date that has one, as ``Year`` or inside a ``MedlineDate``."""
    for date in dates:
        if date is None:
            continue
        for tag in ("Year", "MedlineDate"):
            element = _first(date, tag)
            if element is not None and (match := _YEAR.search(element.text or "")):
                return int(match[0])
    return None


def _doi(ids: Iterable[etree._Element], attribute: str) -> str | None:
    return next((v for e in ids if e.get(attribute) == "doi" and (v := _content(e))), None)


def _publication_types(elements: Iterable[etree._Element]) -> list[str]:
    return [v for e in elements if (v := _content(e))]


def _positive_int(value: str | None) -> int | None:
    value = (value or "").strip()
    # isdigit alone would accept superscripts. PMIDs have 8 digits; 18 always fit into 64 bits.
    if not (value.isascii() and value.isdigit() and len(value) <= 18):
        return None
    return int(value) or None


def _bad_pmid(value: str | None) -> str:
    found = "no PMID" if not (value or "").strip() else f"PMID {value!r:.80}"
    return f"{found}, expected a positive whole number"
