"""PubMed XML to citations, in one streaming pass.

Enters: the bytes of a ``.xml`` or ``.xml.gz`` file. Leaves: citations, deletions and rejected
records in file order. Left to others: which of several records of a PMID counts.

XML is hostile until proven otherwise. Nothing is fetched, no DTD is loaded, a file that declares
entities of its own is refused, and a record may take at most MAX_RECORD_BYTES. Memory is bounded
by a record, whatever the size of the file.
"""

import gzip
import re
import zlib
from collections.abc import Iterator
from typing import IO

from lxml import etree

from schemas.citation import Citation, Deletion, Rejection, lay_out_text, squeeze
from schemas.errors import DamagedSource

MAX_RECORD_BYTES = 8 << 20
"""No real record comes near: the longest author lists make some 3 MB."""

_CHUNK_BYTES = 1 << 16
_GZIP_MAGIC = b"\x1f\x8b"
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
            gzip, own or undefined entities, an oversized record), after everything good before
            that place.
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
    last: int | None = None
    checked = False
    damage: tuple[str, Exception | None] | None = None
    chunks = _decompressed(stream)
    while True:
        try:
            chunk = next(chunks, b"")
            if chunk:
                parser.feed(chunk)
            else:
                root = parser.close()
        except (OSError, EOFError, zlib.error) as e:
            damage = (f"damaged gzip: {e}", e)
        except etree.XMLSyntaxError as e:
            damage = (f"broken XML: {e}", e)
        # lxml lets an undefined entity pass in silence, and would take what follows for a new file.
        log = parser.feed_error_log
        if not damage and (fatal := next(iter(log.filter_from_fatals()), None)):
            damage = (f"broken XML: {fatal.message}, line {fatal.line}", None)
        undefined = bool(log.filter_types(etree.ErrorTypes.WAR_UNDECLARED_ENTITY))
        pending += len(chunk) if not damage else 0
        for _, element in parser.read_events():
            if not checked:
                _refuse_entities(element)
                checked = True
            parent = element.getparent()
            if parent is not None and parent.tag in _RECORDS:
                continue  # the record's inner half: read when the whole record ends
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
    # By content, not by name: files are renamed and recompressed more often than one would think.
    head = stream.read(2)
    stream.seek(0)
    if head == _GZIP_MAGIC:
        # read1, since read would drop what it has already when the stream breaks before the chunk
        # is full.
        stream = gzip.GzipFile(fileobj=stream)  # type: ignore[assignment]
        read = stream.read1  # type: ignore[attr-defined]
    else:
        read = stream.read
    while chunk := read(_CHUNK_BYTES):
        yield chunk


def _refuse_entities(element: etree._Element) -> None:
    dtd = element.getroottree().docinfo.internalDTD
    if dtd is not None and (entity := next(iter(dtd.iterentities()), None)) is not None:
        raise DamagedSource(
            "at the start", f"declares entities of its own (&{entity.name};), which are refused"
        )


def _forget(element: etree._Element) -> None:
    """Free a record and all before it, so that memory does not grow with the file."""
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
        body = element.find("MedlineCitation")
    elif element.tag == "PubmedBookArticle":
        body = element.find("BookDocument")
    if body is None:
        return Rejection(f"record {number}", f"<{element.tag}> without its citation element")
    # Only a direct child is the record's own number: references and corrections hold PMIDs too.
    pmid = body.find("PMID")
    value = _positive_int(pmid.text) if pmid is not None else None
    if value is None or pmid is None:
        return Rejection(f"record {number}", _bad_pmid(None if pmid is None else pmid.text))
    version = _positive_int(pmid.get("Version")) or 1
    version = min(version, _INT16_MAX)
    if body.tag == "BookDocument":
        return _book(body, value, version)
    return _article(element, body, value, version)


def _article(record: etree._Element, body: etree._Element, pmid: int, version: int) -> Citation:
    article = body.find("Article")
    if article is None:
        return Citation(pmid, "", 0, version)
    title = _content(article.find("ArticleTitle")) or _content(article.find("VernacularTitle"))
    text, title_length = lay_out_text(title, _abstract(article.find("Abstract")))
    journal = article.find("Journal")
    doi = _doi(article.findall("ELocationID"), "EIdType") or _doi(
        record.findall("PubmedData/ArticleIdList/ArticleId"), "IdType"
    )
    return Citation(
        pmid,
        text,
        title_length,
        version,
        pub_year=_year(
            None if journal is None else journal.find("JournalIssue/PubDate"),
            article.find("ArticleDate"),
        ),
        journal=_content(None if journal is None else journal.find("Title"))
        or _content(None if journal is None else journal.find("ISOAbbreviation"))
        or _content(body.find("MedlineJournalInfo/MedlineTA"))
        or None,
        language=_content(article.find("Language")) or None,
        doi=doi,
        publication_types=_publication_types(
            article.findall("PublicationTypeList/PublicationType")
        ),
    )


def _book(body: etree._Element, pmid: int, version: int) -> Citation:
    book = body.find("Book")
    title = (
        _content(body.find("ArticleTitle"))
        or _content(body.find("VernacularTitle"))
        or _content(None if book is None else book.find("BookTitle"))
    )
    text, title_length = lay_out_text(title, _abstract(body.find("Abstract")))
    ids = body.findall("ArticleIdList/ArticleId")
    if book is not None:
        ids += book.findall("ELocationID")
    return Citation(
        pmid,
        text,
        title_length,
        version,
        pub_year=_year(
            body.find("ContributionDate"), None if book is None else book.find("PubDate")
        ),
        journal=None,
        language=_content(body.find("Language")) or None,
        doi=_doi(ids, "IdType") or _doi(ids, "EIdType"),
        publication_types=_publication_types(body.findall("PublicationType")),
    )


def _content(element: etree._Element | None) -> str:
    """What stands in an element, tags dropped and nothing put in their place."""
    if element is None:
        return ""
    # Most elements hold plain text only; itertext is several times slower.
    text = (element.text or "") if not len(element) else "".join(element.itertext())
    return squeeze(text)


def _abstract(abstract: etree._Element | None) -> list[tuple[str | None, str]]:
    if abstract is None:
        return []
    return [(e.get("Label"), _content(e)) for e in abstract.iterchildren("AbstractText")]


def _year(*dates: etree._Element | None) -> int | None:
    """The first year that a date gives, as ``Year`` or inside a ``MedlineDate``."""
    for date in dates:
        if date is None:
            continue
        for tag in ("Year", "MedlineDate"):
            if match := _YEAR.search(date.findtext(tag) or ""):
                return int(match[0])
    return None


def _doi(ids: list[etree._Element], attribute: str) -> str | None:
    return next((v for e in ids if e.get(attribute) == "doi" and (v := _content(e))), None)


def _publication_types(elements: list[etree._Element]) -> list[str]:
    return [v for e in elements if (v := _content(e))]


def _positive_int(value: str | None) -> int | None:
    value = (value or "").strip()
    # isdigit alone would accept superscripts; PMIDs have 8 digits, so 18 is a bound, not a rule.
    if not (value.isascii() and value.isdigit() and len(value) <= 18):
        return None
    return int(value) or None


def _bad_pmid(value: str | None) -> str:
    found = "no PMID" if not (value or "").strip() else f"PMID {value!r:.80}"
    return f"{found}, expected a positive whole number"
