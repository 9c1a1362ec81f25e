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
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import IO

from lxml import etree

from engine.sources.elements import Broken, Elements
from engine.sources.inflate import describe, inflate
from engine.sources.mend import mend
from engine.sources.records import MAX_RECORD_BYTES, Frame, Unit, cut_at_records
from engine.sources.skim import skim
from schemas.citation import Citation, Deletion, Rejection, is_placeholder, lay_out_text, squeeze
from schemas.errors import DamagedSource

_ROOTS = {
    "PubmedArticleSet", "PubmedBookArticleSet", "MedlineCitationSet",
    "PubmedArticle", "PubmedBookArticle", "MedlineCitation", "BookDocument",
}  # fmt: skip
_YEAR = re.compile(r"\b(1[5-9]|20)\d\d\b")
_INT16_MAX = 32767
_NO_ABSTRACT = re.compile(r"\W*abstract available from the publisher\W*", re.I)
_ENGLISH = {"eng", "en", "english"}

Record = Citation | Deletion | Rejection


def read_pubmed_xml(stream: IO[bytes]) -> Iterator[Record]:
    """Yield the records of one file in order. A record that is not well-formed is rejected alone.

    Raises:
        DamagedSource: where the file can be read no further (not XML, an end that is missing, XML
            that is broken between records, truncated gzip, own entities, an oversized record), once
            all good records before that place have been yielded.
    """
    reader = _Reader()
    try:
        for frame, piece in cut_at_records(skim(mend(inflate(stream)))):
            yield from reader.feed(piece, frame)
        yield from reader.close()
    except (EOFError, zlib.error) as e:
        yield from reader.rest()
        raise DamagedSource(reader.place, f"damaged gzip: {describe(e)}") from e
    except Broken as e:
        raise DamagedSource(reader.place, str(e)) from e.__cause__
    root = reader.root
    if not reader.number and (root is None or root.tag not in _ROOTS):
        found = "a prefix that is not declared" if root is None else f"root element <{root.tag}>"
        raise DamagedSource("at the start", f"{found}, expected <PubmedArticleSet> or the like")


class _Reader:
    """Makes records of a file's pieces, and goes on behind one that cannot be parsed.

    ``number`` counts the records so far, ``root`` is the root's element once the file has ended.
    """

    def __init__(self) -> None:
        self.number = 0
        self._last: int | None = None  # the PMID of the last citation
        self._frame: Frame | None = None
        self._elements = Elements()
        # Since when no record was open: what was fed, the records of that, and the state before.
        self._fed = b""
        self._waiting: list[Record] = []
        self._before: tuple[int, int | None] = (0, None)
        self._ended = False  # whether the root has ended

    @property
    def root(self) -> etree._Element | None:
        return self._elements.root

    @property
    def place(self) -> str:
        """How far the file has been read."""
        if not self.number:
            return "at the start"
        return f"after record {self.number}" + (f" (PMID {self._last})" if self._last else "")

    def feed(self, piece: bytes, frame: Frame | None) -> Iterator[Record]:
        """Yield the records that end in ``piece``, or in those before it."""
        self._frame = frame
        if frame is None:
            yield from self.rest()
            yield from self._parse(piece)
            return
        self._fed += piece
        try:
            self._waiting.extend(self._parse(piece))
        except Broken:
            if self._ended:
                raise
            yield from self._one_by_one(frame, more=True)
        end = piece.rstrip()
        # The parser lags behind where something is odd, and may find what is broken at the end of a
        # piece only in the next. Tags in comments are counted too, so that waiting has its limit.
        sound = self._elements.ended == frame.count(self._fed) and end.endswith(frame.ends)
        if sound or len(self._fed) > MAX_RECORD_BYTES:
            yield from self.rest()
        self._ended = end.endswith(frame.foot)

    def close(self) -> Iterator[Record]:
        """Yield what is left at the end of the file."""
        try:
            self._waiting.extend(self._parse(b""))
        except Broken:
            if self._frame is None or not self._fed:
                raise
            yield from self._one_by_one(self._frame, more=False)
            yield from self._parse(b"")
        yield from self.rest()

    def rest(self) -> Iterator[Record]:
        """Yield the records that wait until none is open: an open one may be broken, and then all
        that was fed since is read again, one by one."""
        waiting, self._waiting, self._fed = self._waiting, [], b""
        self._before = (self.number, self._last)
        self._elements.ended = 0
        yield from waiting

    def _parse(self, piece: bytes) -> Iterator[Record]:
        for element in self._elements.feed(piece, self._frame.names if self._frame else ()):
            yield from self._records(element)

    def _one_by_one(self, frame: Frame, more: bool) -> Iterator[Record]:
        """Yield the records of what was fed last, each parsed alone. ``more``: the file goes on."""
        units, (self.number, self._last) = frame.units(self._fed), self._before
        self._fed, self._waiting = b"", []
        self._elements = Elements()
        self._feed_mere(frame.head)
        for unit in units:
            data, after = unit.data, unit.after
            if unit.has_end:
                after, foot, beyond = after.partition(frame.foot)
            else:
                data, foot, beyond = data.partition(frame.foot)
            last = unit is units[-1] and not foot
            if last and not unit.has_end:
                if not more:
                    raise Broken("broken XML: the file ends within a record")
                # Whether it is broken or the file cut off, the next piece tells.
                self._fed, self._before = data, (self.number, self._last)
                self._waiting = self._alone(frame, unit, data)
                self._elements.ended = 1  # which is the one that waits
                return
            yield from self._alone(frame, unit, data)
            if last and not more:
                # Whatever else is odd in a file that is cut off is due to that.
                raise Broken(f"broken XML: the file ends without {frame.foot.decode()}")
            try:
                for _ in Elements().whole(frame.head + after + frame.foot):
                    pass
            except Broken as e:
                yield Rejection(self.place, e.cause)
            if beyond.strip():
                raise Broken("broken XML: something after the end of the root")
            if foot:
                self._feed_mere(foot)

    def _feed_mere(self, frame: bytes) -> None:
        for _ in self._elements.feed(frame):  # in which no record ends
            pass

    def _alone(self, frame: Frame, unit: Unit, data: bytes) -> list[Record]:
        """The records of one unit; a rejection if it is broken."""
        try:
            whole = Elements().whole(frame.head + data + frame.foot)
            return [record for element in whole for record in self._records(element)]
        except Broken as e:
            if unit.name == "DeleteCitation":  # what it deletes would not be known
                raise
            self.number += 1
            place = f"record {self.number}" + (f", PMID {unit.pmid}" if unit.pmid else "")
            return [Rejection(place, e.cause, unit.pmid)]

    def _records(self, element: etree._Element) -> Iterator[Record]:
        if element.tag == "DeleteCitation":
            yield from _deletions(element)
            return
        self.number += 1
        record = _record(element, self.number)
        self._last = record.pmid if isinstance(record, Citation) else self._last
        yield record


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
    title = _title(first.get("ArticleTitle"), first.get("VernacularTitle"))
    abstract = _abstract(first.get("Abstract")) or _other_abstract(body)
    text, title_length = lay_out_text(title, abstract)
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
        doi=_doi(
            locations,
            (
                article_id
                for data in record.iterchildren("PubmedData")
                for ids in data.iterchildren("ArticleIdList")
                for article_id in ids.iterchildren("ArticleId")
            ),
        ),
        publication_types=_publication_types(publication_types),
    )


def _book(body: etree._Element, pmid: int, version: int) -> Citation:
    title = _title(
        _first(body, "ArticleTitle"), _first(body, "VernacularTitle"), body.find("Book/BookTitle")
    )
    text, title_length = lay_out_text(title, _abstract(_first(body, "Abstract")))
    return Citation(
        pmid,
        text,
        title_length,
        version,
        pub_year=_year(_first(body, "ContributionDate"), body.find("Book/PubDate")),
        journal=None,
        language=_content(_first(body, "Language")) or None,
        doi=_doi(body.iterfind("Book/ELocationID"), body.iterfind("ArticleIdList/ArticleId"), 1),
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


def _title(*elements: etree._Element | None) -> str:
    """The first title that is no placeholder."""
    titles = (_content(element) for element in elements)
    return next((t for t in titles if t and not is_placeholder(t)), "")


def _abstract(abstract: etree._Element | None) -> list[tuple[str | None, str]]:
    """Label and text of each section of an abstract that has some text."""
    if abstract is None:
        return []
    sections = [(e.get("Label"), _raw_content(e)) for e in abstract.iterchildren("AbstractText")]
    return sections if any(text.strip() for _, text in sections) else []


def _other_abstract(body: etree._Element) -> list[tuple[str | None, str]]:
    """The sections of the first English abstract that others wrote, mostly NLM's partners (PIP,
    NASA, KIE, AIDS, AAMC).

    Looked at only where the authors' own is missing: PubMed shows no other then. Summaries in plain
    language are no abstracts, and of some a publisher has, NLM only says that there is one.
    """
    for other in body.iterchildren("OtherAbstract"):
        kind, language = other.get("Type", ""), other.get("Language", "eng")  # the DTD's default
        if kind.lower() == "plain-language-summary" or language.lower() not in _ENGLISH:
            continue
        sections = _abstract(other)
        if sections and not _NO_ABSTRACT.fullmatch(" ".join(text for _, text in sections)):
            return sections
    return []


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


def _doi(
    locations: Iterable[etree._Element], ids: Iterable[etree._Element], first: int = 0
) -> str | None:
    """The first DOI of ``locations`` (ELocationID) or, failing that, ``ids`` (ArticleId); the other
    way round if ``first`` is 1. One that a location says is not valid is none in either."""
    given = [
        (e.get("ValidYN", "Y").upper() != "N", _content(e))
        for e in locations
        if e.get("EIdType") == "doi"
    ]
    wrong = {doi.lower() for valid, doi in given if not valid}
    located = (doi for valid, doi in given if valid)
    listed = (_content(e) for e in ids if e.get("IdType") == "doi")
    both = [listed, located] if first else [located, listed]
    return next((doi for dois in both for doi in dois if doi and doi.lower() not in wrong), None)


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
