"""PubMed XML to citations: the layout rule case by case, real records, hostile and broken files."""

import gzip
import io
import re
import resource
import socket
import time
import zlib
from itertools import chain, pairwise, repeat
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lxml import etree

from engine.sources.pubmed_xml import Record, read_pubmed_xml
from engine.sources.records import MAX_RECORD_BYTES
from engine.sources.skim import skim
from schemas.citation import Citation, Deletion, Rejection
from schemas.errors import DamagedSource

PMID = 99000001  # invented, as all in this file
AWKWARD_FILE = Path(__file__).parents[2] / "data/awkward.xml"
REAL_FILES = Path(__file__).parents[3] / "../shared/data/pubmed-xml"
EXTERNAL_DTD = '<!DOCTYPE PubmedArticleSet SYSTEM "pubmed.dtd">'


def article(
    inside: str, beside: str = "", after: str = "", pmid: str = f"<PMID>{PMID}</PMID>"
) -> str:
    """A record with ``inside`` its Article, ``beside`` that, and ``after`` its MedlineCitation."""
    return (
        f"<PubmedArticle><MedlineCitation>{pmid}<Article>{inside}</Article>{beside}"
        f"</MedlineCitation>{after}</PubmedArticle>"
    )


def title(xml: str) -> str:
    return article(f"<ArticleTitle>{xml}</ArticleTitle>")


def titled(number: int, xml: str = "Fine.") -> str:
    return article(f"<ArticleTitle>{xml}</ArticleTitle>", pmid=f"<PMID>{number}</PMID>")


def abstract(xml: str) -> str:
    return article(f"<ArticleTitle>T.</ArticleTitle><Abstract>{xml}</Abstract>")


def book(inside: str) -> str:
    return (
        f"<PubmedBookArticle><BookDocument><PMID>{PMID}</PMID>{inside}</BookDocument>"
        "</PubmedBookArticle>"
    )


def dated(xml: str) -> str:
    return article(f"<Journal><JournalIssue>{xml}</JournalIssue></Journal>")


def file_of(*records: str, doctype: str = "", root: str = "PubmedArticleSet") -> bytes:
    return f"<?xml version='1.0'?>{doctype}<{root}>{''.join(records)}</{root}>".encode()


def read(data: bytes) -> list[Record]:
    return list(read_pubmed_xml(io.BytesIO(data)))


def read_damaged(stream: bytes | io.RawIOBase) -> tuple[list[Record], DamagedSource]:
    """What is read before the damage, and the damage."""
    records = []
    with pytest.raises(DamagedSource) as caught:
        for record in read_pubmed_xml(io.BytesIO(stream) if isinstance(stream, bytes) else stream):
            records.append(record)
    return records, caught.value


def citation(text: str, title_length: int, **fields: object) -> Citation:
    return Citation(PMID, text, title_length, **fields)  # type: ignore[arg-type]


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Endless(io.RawIOBase):
    """``head``, then ``unit`` again and again, then ``tail``: made while it is read."""

    def __init__(self, head: bytes, unit: bytes, times: int = 10**9, tail: bytes = b""):
        self.given = 0
        self._pieces = chain([head], repeat(unit, times), [tail])
        self._next = b""
        self._peeked = b""

    def read(self, size: int = -1) -> bytes:
        while len(self._next) < size and (piece := next(self._pieces, None)) is not None:
            self._next += piece
        given, self._next = self._next[:size], self._next[size:]
        self._peeked, self.given = given, self.given + len(given)
        return given

    def seek(self, offset: int, whence: int = 0) -> int:
        self._next = self._peeked + self._next  # taking back the look at the first bytes
        return 0


# Text and offsets, as DESIGN.md words it; then the columns.

MATH = 'xmlns:mml="http://www.w3.org/1998/Math/MathML"'
TEXT = {
    # Inside an element: tags dropped, content kept, nothing inserted.
    "plain": (title("Fine."), citation("Fine.", 5)),
    "inline tags leave no gap": (
        title("CO<sub>2</sub>, Ca<sup>2+</sup> and <i>E</i><u>.</u> <b>coli</b>"),
        citation("CO2, Ca2+ and E. coli", 21),
    ),
    "nested markup": (
        title("<b>p<i>K<sub>a<u>1</u></sub></i></b>-shift"),
        citation("pKa1-shift", 10),
    ),
    "MathML": (
        title(
            f"for <mml:math {MATH}><mml:mi>x</mml:mi><mml:mo>≤</mml:mo>"
            "<mml:mn>3</mml:mn></mml:math>."
        ),
        citation("for x≤3.", 8),
    ),
    "MathML over several lines": (
        title(f"<mml:math {MATH}>\n  <mml:mi>a</mml:mi>\n  <mml:mi>b</mml:mi>\n</mml:math>!"),
        citation("a b !", 5),
    ),
    "formula in an abstract": (
        abstract("<AbstractText>So <DispFormula>E=mc<sup>2</sup></DispFormula>.</AbstractText>"),
        citation("T. So E=mc2.", 2),
    ),
    "markup of unknown kind": (title("a<sec kind='x'>b</sec>c"), citation("abc", 3)),
    "numeric references": (title("&#945;&#x3B2;&#8209;&#x1F9EC;"), citation("αβ\u2011🧬", 4)),
    "XML's own entities": (
        title("&lt;b&gt; &amp;amp; &quot;x&apos;"),
        citation("<b> &amp; \"x'", 13),
    ),
    "CDATA": (title("a <![CDATA[<b> & &lt;]]> c"), citation("a <b> & &lt; c", 14)),
    "comments leave no gap": (title("T<!-- no --> cell<!---->s"), citation("T cells", 7)),
    "processing instructions leave no gap": (title("T<?x y?> cell<?z?>s"), citation("T cells", 7)),
    "comment inside inline tag": (title("<i>in <!-- no -->vivo</i>"), citation("in vivo", 7)),
    # White space.
    "tabs and newlines": (title("a\t\tb\n   c \r\n d"), citation("a b c d", 7)),
    "white space by reference": (title("&#9;a&#10;&#13; b&#32;"), citation("a b", 3)),
    "no-break and other spaces": (
        title("10\u00a0\u00a0mg\u2009a\u3000day\u2028ago\u0085!&#160;"),
        citation("10 mg a day ago !", 17),
    ),
    "zero-width characters are no space": (
        title("a\u200bb\u2060c\ufeffd"),
        citation("a\u200bb\u2060c\ufeffd", 7),
    ),
    "white space across tags": (title(" a <i> b </i>\n<b> </b> c "), citation("a b c", 5)),
    # Characters.
    "astral characters count as one": (
        article(
            "<ArticleTitle>𝒜𝒷🧬</ArticleTitle><Abstract><AbstractText>𠮷</AbstractText></Abstract>"
        ),
        citation("𝒜𝒷🧬 𠮷", 3),
    ),
    "no normalisation": (
        title("e\u0301\u00e9 \u212b\u00c5 \ufb01 ﹢１² \u1100\u1161"),
        citation("e\u0301\u00e9 \u212b\u00c5 \ufb01 ﹢１² \u1100\u1161", 15),
    ),
    "no change of case": (title("İẞ ǅ mRNA"), citation("İẞ ǅ mRNA", 9)),
    "right to left": (
        title("\u200fשלום\u202b abc\u202c"),
        citation("\u200fשלום\u202b abc\u202c", 11),
    ),
    # Title.
    "square brackets stay": (
        title("[On nothing (author's transl)]."),
        citation("[On nothing (author's transl)].", 31),
    ),
    "empty title": (
        article("<ArticleTitle/><Abstract><AbstractText>Abc.</AbstractText></Abstract>"),
        citation(" Abc.", 0),
    ),
    "no title": (
        article("<Abstract><AbstractText Label='AIM'>Abc.</AbstractText></Abstract>"),
        citation(" AIM: Abc.", 0),
    ),
    "vernacular title for an empty one": (
        article("<ArticleTitle/><VernacularTitle>Sobre <i>nada</i>.</VernacularTitle>"),
        citation("Sobre nada.", 11),
    ),
    "vernacular title for a blank one": (
        article(
            "<ArticleTitle> <i> </i>&#160;</ArticleTitle><VernacularTitle>Nada.</VernacularTitle>"
        ),
        citation("Nada.", 5),
    ),
    "vernacular title beside a title": (
        article("<ArticleTitle>[Nothing].</ArticleTitle><VernacularTitle>Nada.</VernacularTitle>"),
        citation("[Nothing].", 10),
    ),
    # Abstract.
    "one space before the abstract": (
        abstract("\n<AbstractText>\n Abc. </AbstractText>\n"),
        citation("T. Abc.", 2),
    ),
    "no abstract, no trailing space": (title("Alone. "), citation("Alone.", 6)),
    "abstract of nothing": (abstract(""), citation("T.", 2)),
    "abstract of white space": (
        abstract("<AbstractText> \n </AbstractText><AbstractText>&#160;</AbstractText>"),
        citation("T.", 2),
    ),
    "paragraphs": (
        abstract("<AbstractText>One.</AbstractText>\n\n<AbstractText>Two.</AbstractText>"),
        citation("T. One. Two.", 2),
    ),
    "labels": (
        abstract(
            "<AbstractText Label='BACKGROUND' NlmCategory='BACKGROUND'>B.</AbstractText>"
            "<AbstractText Label='Patients &amp; methods' NlmCategory='METHODS'>M<sub>1</sub>."
            "</AbstractText>"
        ),
        citation("T. BACKGROUND: B. Patients & methods: M1.", 2),
    ),
    "label UNLABELLED": (
        abstract(
            "<AbstractText Label='UNLABELLED'>U.</AbstractText>"
            "<AbstractText Label='Unlabelled'>V.</AbstractText>"
        ),
        citation("T. U. V.", 2),
    ),
    "label of nothing": (
        abstract(
            "<AbstractText Label=''>A.</AbstractText><AbstractText Label=' '>B.</AbstractText>"
        ),
        citation("T. A. B.", 2),
    ),
    "label with odd spaces": (
        abstract("<AbstractText Label=' WHAT&#10;NEXT&#160;? '>N.</AbstractText>"),
        citation("T. WHAT NEXT ? N.", 2),
    ),
    "label without content": (
        abstract(
            "<AbstractText Label='AIM'/><AbstractText Label='METHODS'>M.</AbstractText>"
            "<AbstractText Label='RESULTS'> </AbstractText>"
        ),
        citation("T. METHODS: M.", 2),
    ),
    "labels without any content": (abstract("<AbstractText Label='AIM'/>"), citation("T.", 2)),
    "category without label": (
        abstract("<AbstractText NlmCategory='RESULTS'>R.</AbstractText>"),
        citation("T. R.", 2),
    ),
    "copyright left out": (
        abstract("<AbstractText>A.</AbstractText><CopyrightInformation>© X</CopyrightInformation>"),
        citation("T. A.", 2),
    ),
    "copyright only": (
        abstract("<CopyrightInformation>© X</CopyrightInformation>"),
        citation("T.", 2),
    ),
    "other abstract left out": (
        article(
            "<ArticleTitle>T.</ArticleTitle>",
            "<OtherAbstract Type='plain-language-summary'><AbstractText>P.</AbstractText>"
            "</OtherAbstract>",
        ),
        citation("T.", 2),
    ),
    **{
        f"other abstract of {kind}": (
            article(
                "<ArticleTitle>T.</ArticleTitle>",
                f"<OtherAbstract {kind}><AbstractText Label='AIM'>P.</AbstractText>"
                "</OtherAbstract>",
            ),
            citation("T. AIM: P." if read_it else "T.", 2),
        )
        for kind, read_it in {
            "Type='PIP' Language='eng'": True,
            "Type='NASA'": True,
            "Type='AAMC' Language='EN'": True,
            "Type='PIP' Language='fre'": False,
            "Type='Plain-Language-Summary' Language='eng'": False,
        }.items()
    },
    "of other abstracts the first English one": (
        article(
            "<ArticleTitle>T.</ArticleTitle><Abstract><AbstractText> </AbstractText></Abstract>",
            "".join(
                f"<OtherAbstract Type='{kind}' Language='{language}'><AbstractText>{text}"
                "</AbstractText></OtherAbstract>"
                for kind, language, text in (
                    ("KIE", "spa", "S."),
                    ("Publisher", "eng", "Abstract available from the publisher."),
                    ("AIDS", "eng", "A."),
                    ("PIP", "eng", "P."),
                )
            ),
        ),
        citation("T. A.", 2),
    ),
    "other abstract beside the authors' own": (
        article(
            "<ArticleTitle>T.</ArticleTitle><Abstract><AbstractText>A.</AbstractText></Abstract>",
            "<OtherAbstract Type='PIP'><AbstractText>P.</AbstractText></OtherAbstract>",
        ),
        citation("T. A.", 2),
    ),
    **{
        f"placeholder {title}": (
            article(
                f"<ArticleTitle>{title}</ArticleTitle>"
                "<VernacularTitle>Über Gicht.</VernacularTitle>"
            ),
            citation("Über Gicht.", 11),
        )
        for title in (
            "[Not Available].",
            "[Not Available]",
            "Not available.",
            "[<i>Not</i> AVAILABLE]",
            "[No title available]",
            " [ Title not available ] . ",
        )
    },
    "a title with the words of a placeholder": (
        article("<ArticleTitle>Vaccines not available.</ArticleTitle>"),
        citation("Vaccines not available.", 23),
    ),
    "two placeholders": (
        article(
            "<ArticleTitle>[Not Available].</ArticleTitle>"
            "<VernacularTitle>[Not Available].</VernacularTitle>"
        ),
        citation("", 0),
    ),
    # Books.
    "placeholder of a chapter": (
        book("<Book><BookTitle>B.</BookTitle></Book><ArticleTitle>[Not Available].</ArticleTitle>"),
        citation("B.", 2),
    ),
    "book chapter": (
        book(
            "<Book><BookTitle>Handbook</BookTitle></Book><ArticleTitle>On <i>X</i></ArticleTitle>"
            "<Abstract><AbstractText Label='AIM'>A.</AbstractText></Abstract>"
        ),
        citation("On X AIM: A.", 4),
    ),
    "whole book": (
        book(
            "<Book><BookTitle>[Handbook]</BookTitle></Book><ArticleTitle> </ArticleTitle>"
            "<Abstract><AbstractText>A.</AbstractText></Abstract>"
        ),
        citation("[Handbook] A.", 10),
    ),
}
FIELDS = {
    "nothing but a PMID": (
        f"<PubmedArticle><MedlineCitation><PMID>{PMID}</PMID></MedlineCitation></PubmedArticle>",
        Citation(PMID, "", 0, 1, None, None, None, None, []),
    ),
    "everything empty": (
        article(
            "<Journal><JournalIssue><PubDate><Year/></PubDate></JournalIssue><Title/></Journal>"
            "<ArticleTitle/><ELocationID EIdType='doi'/><Abstract/><Language/>"
            "<PublicationTypeList><PublicationType/></PublicationTypeList>"
        ),
        Citation(PMID, "", 0, 1, None, None, None, None, []),
    ),
    "everything given": (
        article(
            "<Journal><JournalIssue><PubDate><Year>2024</Year><Month>Feb</Month></PubDate>"
            "</JournalIssue><Title>Journal of\nNothing &amp; more</Title>"
            "<ISOAbbreviation>J Noth</ISOAbbreviation></Journal><ArticleTitle>T.</ArticleTitle>"
            "<ELocationID EIdType='pii'>1</ELocationID>"
            "<ELocationID EIdType='doi'>10.9/x</ELocationID>"
            "<Language>fre</Language><Language>eng</Language><PublicationTypeList>"
            "<PublicationType>Review</PublicationType><PublicationType>Letter</PublicationType>"
            "</PublicationTypeList>",
            after="<PubmedData><ArticleIdList><ArticleId IdType='doi'>10.9/y</ArticleId>"
            "</ArticleIdList></PubmedData>",
            pmid=f"<PMID Version='3'>{PMID}</PMID>",
        ),
        Citation(
            PMID,
            "T.",
            2,
            3,
            2024,
            "Journal of Nothing & more",
            "fre",
            "10.9/x",
            ["Review", "Letter"],
        ),
    ),
    "book": (
        book(
            "<ArticleIdList><ArticleId IdType='bookaccession'>NBK0</ArticleId>"
            "<ArticleId IdType='doi'>10.9/b</ArticleId></ArticleIdList>"
            "<Book><BookTitle>B</BookTitle><PubDate><Year>2001</Year></PubDate></Book>"
            "<Language>eng</Language><PublicationType>Review</PublicationType>"
        ),
        Citation(PMID, "B", 1, 1, 2001, None, "eng", "10.9/b", ["Review"]),
    ),
    "year of a span": (
        dated("<PubDate><MedlineDate>1998 Dec-1999 Jan</MedlineDate></PubDate>"),
        citation("", 0, pub_year=1998),
    ),
    "year after a season": (
        dated("<PubDate><MedlineDate>Winter 1809</MedlineDate></PubDate>"),
        citation("", 0, pub_year=1809),
    ),
    "date without a year": (
        dated("<PubDate><MedlineDate>in print, no. 20245</MedlineDate></PubDate>"),
        citation("", 0),
    ),
    "year of the electronic version": (
        article("<Journal/><ArticleDate><Year>2020</Year></ArticleDate>"),
        citation("", 0, pub_year=2020),
    ),
    "DOI among the article's ids": (
        article(
            "<ELocationID EIdType='pii'>S1</ELocationID>",
            after="<PubmedData><ArticleIdList><ArticleId IdType='pubmed'>1</ArticleId>"
            "<ArticleId IdType='doi'>10.9/z</ArticleId></ArticleIdList></PubmedData>",
        ),
        citation("", 0, doi="10.9/z"),
    ),
    "DOI of a reference": (
        article(
            "",
            after="<PubmedData><ReferenceList><Reference><ArticleIdList>"
            "<ArticleId IdType='doi'>10.9/r</ArticleId></ArticleIdList></Reference></ReferenceList>"
            "</PubmedData>",
        ),
        citation("", 0),
    ),
    "journal by its abbreviation": (
        article("<Journal><ISOAbbreviation>J Noth</ISOAbbreviation></Journal>"),
        citation("", 0, journal="J Noth"),
    ),
    "journal by MEDLINE's name": (
        article("", "<MedlineJournalInfo><MedlineTA>J Nothing</MedlineTA></MedlineJournalInfo>"),
        citation("", 0, journal="J Nothing"),
    ),
    "PMIDs of other records": (
        article(
            "<ArticleTitle>T.</ArticleTitle>",
            "<CommentsCorrectionsList><CommentsCorrections RefType='ErratumIn'><PMID>7</PMID>"
            "</CommentsCorrections></CommentsCorrectionsList>",
            "<PubmedData><ReferenceList><Reference><PMID>8</PMID></Reference></ReferenceList></PubmedData>",
        ),
        citation("T.", 2),
    ),
    "PMID with white space": (article("", pmid=f"<PMID>\n 0{PMID} </PMID>"), citation("", 0)),
    "PMID in pieces": (article("", pmid="<PMID>99<!-- -->000<?x?>001</PMID>"), citation("", 0)),
    "version beyond the column": (
        article("", pmid=f"<PMID Version='99999'>{PMID}</PMID>"),
        citation("", 0, version=32767),
    ),
    "version of no use": (article("", pmid=f"<PMID Version='new'>{PMID}</PMID>"), citation("", 0)),
}


@pytest.mark.parametrize(
    ("record", "expected"), [pytest.param(*v, id=k) for k, v in (TEXT | FIELDS).items()]
)
def test_record(record: str, expected: Citation) -> None:
    assert read(file_of(record)) == [expected]


def test_whole_file() -> None:
    first = (
        "Uptake of CO2 by Ficus imaginaria: a α-helix story. AIMS & SCOPE: To measure Ca2+. "
        "Nothing was measured. If p<0.05, rejoice."
    )
    assert read(AWKWARD_FILE.read_bytes()) == [
        Citation(
            99100001, first, 51, 1, 1998, "Annals of Awkward Records", "eng",
            "10.99999/awkward.1", ["Journal Article", "Review"],
        ),
        Citation(99100002, "[Über nichts.]", 14, language="ger"),
        Citation(99100002, " Only an abstract.", 0, version=2),
        Rejection("record 4", "no PMID, expected a positive whole number"),
        Citation(
            99100003, "Handbook of Nothing 𝒩othing in vivo.", 19, 1, 2013, None, "eng",
            "10.99999/book", ["Review"],
        ),
        Deletion(99100004),
        Deletion(99100005),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (file_of(titled(1), root="PubmedBookArticleSet"), "Fine."),
        (
            file_of(
                "<MedlineCitation><PMID>1</PMID><Article><ArticleTitle>Fine.</ArticleTitle></Article>"
                "</MedlineCitation>",
                root="MedlineCitationSet",
            ),
            "Fine.",
        ),
        (titled(1).encode(), "Fine."),
        (b"<MedlineCitation><PMID>1</PMID></MedlineCitation>", ""),
        (b"<PubmedBookArticle><BookDocument><PMID>1</PMID></BookDocument></PubmedBookArticle>", ""),
        (b"<BookDocument><PMID>1</PMID><ArticleTitle>B</ArticleTitle></BookDocument>", "B"),
    ],
    ids=lambda v: v.decode()[:60] if isinstance(v, bytes) else "",
)
def test_root(data: bytes, text: str) -> None:
    assert read(data) == [Citation(1, text, len(text))]


def test_versions_and_doubles_come_in_file_order() -> None:
    versions = [article("", pmid=f"<PMID Version='{v}'>1</PMID>") for v in (2, 10, 1, 1)]
    assert [r.version for r in read(file_of(*versions)) if isinstance(r, Citation)] == [2, 10, 1, 1]


@pytest.mark.parametrize("empty", [file_of(), b"<MedlineCitationSet/>"])
def test_set_without_records(empty: bytes) -> None:
    assert read(empty) == []


def test_deletions_only() -> None:
    block = "<DeleteCitation><PMID>3</PMID><PMID Version='1'>2</PMID></DeleteCitation>"
    assert read(file_of(block)) == [Deletion(3), Deletion(2)]


# Records of no use: rejected with their place, and the rest goes on.


@pytest.mark.parametrize(
    ("pmid", "found"),
    [
        ("", "no PMID"),
        ("<PMID/>", "no PMID"),
        ("<PMID> </PMID>", "no PMID"),
        ("<PMID>PMC12</PMID>", "PMID 'PMC12'"),
        ("<PMID>0</PMID>", "PMID '0'"),
        ("<PMID>-5</PMID>", "PMID '-5'"),
        ("<PMID>1.5</PMID>", "PMID '1.5'"),
        ("<PMID>1 2</PMID>", "PMID '1 2'"),
        ("<PMID>²</PMID>", "PMID '²'"),
        ("<PMID>١٢</PMID>", "PMID '١٢'"),
        ("<PMID>9999999999999999999</PMID>", "PMID '9999999999999999999'"),
        (f"<PMID>{'9' * 5000}</PMID>", f"PMID '{'9' * 79}"),
        ("<X><PMID>7</PMID></X>", "no PMID"),
    ],
)
def test_unusable_pmid(pmid: str, found: str) -> None:
    assert read(file_of(titled(1), article("", pmid=pmid), titled(2))) == [
        Citation(1, "Fine.", 5),
        Rejection("record 2", f"{found}, expected a positive whole number"),
        Citation(2, "Fine.", 5),
    ]


@pytest.mark.parametrize(
    "record", ["<PubmedArticle/>", "<PubmedBookArticle><X/></PubmedBookArticle>"]
)
def test_record_without_its_inner_half(record: str) -> None:
    found = read(file_of(record, titled(2)))
    tag = record[1:].split("/")[0].split(">")[0]
    assert found == [
        Rejection("record 1", f"<{tag}> without its citation element"),
        Citation(2, "Fine.", 5),
    ]


def test_unusable_deletion() -> None:
    block = "<DeleteCitation><PMID>3</PMID><PMID>x</PMID><PMID>2</PMID></DeleteCitation>"
    assert read(file_of(block)) == [
        Deletion(3),
        Rejection("DeleteCitation, entry 2", "PMID 'x', expected a positive whole number"),
        Deletion(2),
    ]


# Real records, against DESIGN.md's rules written down a second time, over whole trees and XPath.


def read_by_the_rules(data: bytes) -> list[tuple[int, str, int]]:
    def flat(node: etree._Element, path: str) -> str:
        return re.sub(r"\s+", " ", str(node.xpath(f"string({path})"))).strip()

    rows = []
    for record in etree.parse(io.BytesIO(data)).xpath("//MedlineCitation | //BookDocument"):
        base = "Article/" if record.tag == "MedlineCitation" else ""
        titles = ("ArticleTitle", "VernacularTitle", "Book/BookTitle")
        name = next((t for path in titles if (t := flat(record, base + path))), "")
        # Only parts with content: a label that begins nothing is not printed.
        parts = [
            flat(part, ".") if part.get("Label") in (None, "UNLABELLED")
            else f"{flat(part, '@Label')}: {flat(part, '.')}"
            for part in record.xpath(f"{base}Abstract/AbstractText") if flat(part, ".")
        ]  # fmt: skip
        text = name + " " + " ".join(parts) if parts else name
        rows.append((int(record.xpath("number(PMID)")), text, len(name)))
    return rows


@pytest.mark.skipif(not REAL_FILES.is_dir(), reason="no real records in ../shared/data/pubmed-xml")
def test_real_records_read_as_the_rules_say() -> None:
    pmids = set()
    for file in sorted(p for p in REAL_FILES.rglob("*.*") if p.name.endswith((".xml", ".xml.gz"))):
        data = file.read_bytes()
        ours = [r for r in read(data) if not isinstance(r, Deletion)]
        plain = gzip.decompress(data) if file.suffix == ".gz" else data
        assert [(r.pmid, r.text, r.title_length) for r in ours] == read_by_the_rules(plain), (
            file.name
        )
        pmids.update(r.pmid for r in ours)
    assert len(pmids) == 959


# Any text: written by lxml, read back, compared with the rule.

_CHARACTERS = st.one_of(
    st.sampled_from("abé \t\n\r\u00a0\u2009\u3000\u0301𝒜🧬[]<&>\"'"),
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"),
)
_STRING = st.text(_CHARACTERS, max_size=12)
Content = list[tuple[str | None, str]]  # pieces of text, each in an inline tag or in none
_CONTENT = st.lists(
    st.tuples(st.sampled_from([None, None, "i", "sub", "sup", "b"]), _STRING), max_size=4
)
_LABEL = st.one_of(st.none(), st.just("UNLABELLED"), _STRING)
_ABSTRACT = st.lists(st.tuples(_LABEL, _CONTENT), max_size=4)


def add(parent: etree._Element, tag: str, content: Content, **attributes: str) -> None:
    element = etree.SubElement(parent, tag, attributes)
    for inline, string in content:
        if inline:
            etree.SubElement(element, inline).text = string
        elif len(element):
            element[-1].tail = (element[-1].tail or "") + string
        else:
            element.text = (element.text or "") + string


def clean(content: Content) -> str:
    return re.sub(r"\s+", " ", "".join(string for _, string in content)).strip(" ")


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(_CONTENT, _ABSTRACT), max_size=4),
    st.sampled_from(["utf-8", "utf-16", "ascii"]),
)
@example([([], [(".", [(None, "0")])])], "utf-8")
def test_any_text_is_laid_out_by_the_rule(
    records: list[tuple[Content, list[tuple[str | None, Content]]]], encoding: str
) -> None:
    root = etree.Element("PubmedArticleSet")
    expected = []
    for number, (name, parts) in enumerate(records, 1):
        body = etree.SubElement(etree.SubElement(root, "PubmedArticle"), "MedlineCitation")
        etree.SubElement(body, "PMID").text = str(number)
        inside = etree.SubElement(body, "Article")
        add(inside, "ArticleTitle", name)
        around = etree.SubElement(inside, "Abstract")
        text = clean(name)
        for label, content in parts:
            add(around, "AbstractText", content, **({} if label is None else {"Label": label}))
            printed = clean([(None, label or "")])
            if clean(content):
                none = ("", "unlabelled", "unlabeled", "unassigned")
                mark = "" if printed[-1:] in ":;.?!-–—…：；。？！" else ":"
                bare = printed.casefold().rstrip(" :.")  # a label of marks alone says nothing
                text += " " if bare in none else f" {printed}{mark} "
                text += clean(content)
        expected.append(Citation(number, text, len(clean(name))))
    data = etree.tostring(root, xml_declaration=True, encoding=encoding)
    assert read(data) == expected


# Cut anywhere: what ended before the cut is there.

_MANY = [
    titled(n, f"<i>Title</i> № {n * 7919 % 100_003} of a file that ends early")
    for n in range(1, 1500)
]
_FILE = file_of(*_MANY)  # more than two chunks of 64 KiB
_ENDS = [m.end() for m in re.finditer(b"</PubmedArticle>", _FILE)]
_GZIPPED = gzip.compress(_FILE, mtime=0)


def assert_cut_loses_nothing(cut: bytes, readable: int) -> None:
    records, _ = read_damaged(cut)
    assert [r.pmid for r in records if not isinstance(r, Rejection)] == list(
        range(1, sum(end <= readable for end in _ENDS) + 1)
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(_FILE) - 1))
@example(_ENDS[0])
@example(_ENDS[0] - 1)
@example(1 << 16)
@example(len(_FILE) - 1)
def test_plain_file_cut_anywhere(cut: int) -> None:
    assert_cut_loses_nothing(_FILE[:cut], cut)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(_GZIPPED) - 1))
@example(len(_GZIPPED) - 1)
@example(len(_GZIPPED) - 9)
def test_gzip_file_cut_anywhere(cut: int) -> None:
    readable = len(zlib.decompressobj(wbits=31).decompress(_GZIPPED[:cut]))
    assert_cut_loses_nothing(_GZIPPED[:cut], readable)


def test_short_file_cut_at_every_byte() -> None:
    data = file_of(titled(1, "naïve 𝒜 &amp; <i>x</i>"), titled(2), "<DeleteCitation/>")
    ends = [m.end() for m in re.finditer(b"</PubmedArticle>", data)]
    for cut in range(len(data)):
        records, _ = read_damaged(data[:cut])
        assert len(records) == sum(end <= cut for end in ends), cut


# Broken files: everything good before the damage, then where and why.


@pytest.mark.parametrize(
    ("junk", "cause"),
    [
        (b"<", "broken XML"),
        (b"</b>", "mismatch"),
        (b"&", "broken XML"),
        (b"&nbsp;", "Entity 'nbsp' not defined"),
        (b"&#0;", "invalid xmlChar"),
        (b"\x01", "invalid Char"),
        (b"na\xefve", "Invalid bytes"),
        (b"\xed\xa0\x80", "Invalid bytes"),
        (b"<i>" * 300 + b"</i>" * 300, "Excessive depth"),
        (b"<i>" * 2_000_000, "Excessive depth"),
    ],
    ids=lambda v: repr(v[:12]) if isinstance(v, bytes) else "",
)
@pytest.mark.parametrize("others", [1, 1000])  # in one chunk, and with chunks around
def test_broken_in_the_middle(junk: bytes, cause: str, others: int) -> None:
    good = [titled(n) for n in range(1, others + 1)]
    data = file_of(*good, titled(9999, "JUNK"), *good).replace(b"JUNK", junk)
    around = [Citation(n, "Fine.", 5) for n in range(1, others + 1)]
    found = read(data)
    broken = found[others]
    assert found[:others] == around == found[others + 1 :]
    assert isinstance(broken, Rejection)
    assert (broken.place, broken.pmid) == (f"record {others + 1}, PMID 9999", 9999)
    assert cause in broken.reason


_START, _END = "<PubmedArticle>", "</PubmedArticle>"


@pytest.mark.parametrize(
    ("records", "read_as"),
    [
        ([titled(1), titled(2).removesuffix(_END), titled(3)], [1, "record 2, PMID 2", 3]),
        ([titled(1), titled(2)[:60], titled(3)], [1, "record 2, PMID 2", 3]),
        ([titled(1), titled(2).removeprefix(_START), titled(3)], [1, "after record 1 (PMID 1)", 3]),
        ([titled(1), "a < b", titled(3)], [1, "after record 1 (PMID 1)", 3]),
        ([titled(1, "a < b"), titled(2, "a < b"), titled(3)],
         ["record 1, PMID 1", "record 2, PMID 2", 3]),
        ([titled(1), titled(2, f"<!-- {_START} --> & <![CDATA[{_END}]]>"), titled(3)],
         [1, "record 2, PMID 2", 3]),
        ([titled(1), titled(2, "&"), titled(3), "<DeleteCitation><PMID>9</PMID></DeleteCitation>"],
         [1, "record 2, PMID 2", 3, Deletion(9)]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("root", ["PubmedArticleSet", "PubmedArticleSet xmlns:mml='uri:m'"])
def test_a_broken_record_costs_itself(
    records: list[str], read_as: list[int | str | Record], root: str
) -> None:
    data = f"<{root}>{''.join(records)}</PubmedArticleSet>".encode()
    assert read_as == [
        r.pmid if isinstance(r, Citation) else r.place if isinstance(r, Rejection) else r
        for r in read(data)
    ]


@pytest.mark.parametrize("end", ["", "</Med>", "&", "</Article"])
def test_a_last_record_that_is_broken_and_cut_off_is_damage(end: str) -> None:
    data = file_of(titled(1), titled(2, "&"), titled(3))
    cut = data[: data.rindex(b"</Article>")] + end.encode()
    records, damage = read_damaged(cut)
    assert [r.pmid for r in records if not isinstance(r, Deletion)] == [1, 2]
    assert damage.place == "after record 2 (PMID 1)"


def test_what_is_deleted_must_be_known() -> None:
    broken = "<DeleteCitation><PMID>9</PMID>&</DeleteCitation>"
    records, damage = read_damaged(file_of(titled(1), titled(2, "&"), broken))
    assert [r.pmid for r in records if not isinstance(r, Deletion)] == [1, 2]
    assert damage.place == "after record 2 (PMID 1)"


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "no element"),
        (b" \n", "broken XML"),
        (b"PMID- 12345\nTI  - no XML at all\n", "'<' not found"),
        (b"\x00\x01\x02\x03", "broken XML"),
        (b"PK\x03\x04 a zip", "'<' not found"),
        (b"\x1f\x8b", "damaged gzip"),
        (b"\x1f\x8bno gzip at all", "damaged gzip"),
        (gzip.compress(b"", mtime=0), "no element"),
        (b"<!DOCTYPE html><html><head><meta></head><body>Busy.<br></body></html>", "broken XML"),
        (b"<html><body>404</body></html>", "root element <html>, expected <PubmedArticleSet>"),
        (b"<pmc-articleset><article/></pmc-articleset>", "root element <pmc-articleset>"),
    ],
    ids=lambda v: repr(v[:20]) if isinstance(v, bytes) else "",
)
def test_not_pubmed_xml(data: bytes, cause: str) -> None:
    records, damage = read_damaged(data)
    assert records == []
    assert damage.place == "at the start"
    assert cause in damage.cause


@pytest.mark.parametrize("tail", [b"garbage", file_of(titled(2))])
def test_something_after_the_end(tail: bytes) -> None:
    records, damage = read_damaged(file_of(titled(1)) + tail)
    assert records == [Citation(1, "Fine.", 5)]
    assert damage.place == "after record 1 (PMID 1)"


def test_gzip_with_a_wrong_checksum() -> None:
    data = gzip.compress(file_of(titled(1)))
    records, damage = read_damaged(data[:-8] + bytes(8))
    assert records == [Citation(1, "Fine.", 5)]
    assert "CRC" in damage.cause


def test_gzip_in_several_members() -> None:
    data = file_of(titled(1), titled(2))
    members = [gzip.compress(data[a:b]) for a, b in pairwise([0, 10, 11, 90, len(data)])]
    assert read(b"".join(members)) == read(data)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-16-le"])
def test_encoding_by_its_mark(encoding: str) -> None:
    # Without a mark, UTF-16 is known by the first "<".
    assert read(file_of(titled(1, "naïve 𝒜")).decode().encode(encoding)) == [
        Citation(1, "naïve 𝒜", 7)
    ]


def test_encoding_by_its_declaration() -> None:
    data = "<?xml version='1.0' encoding='iso-8859-1'?>" + titled(1, "naïve")
    assert read(data.encode("latin-1")) == [Citation(1, "naïve", 5)]


# Hostile files: nothing fetched, nothing expanded, fast and in bounded memory.


@pytest.mark.parametrize(
    "declaration",
    [
        '<!ENTITY x SYSTEM "{uri}">',
        '<!ENTITY x PUBLIC "-//X//EN" "{uri}">',
        '<!ENTITY % x SYSTEM "{uri}"> %x;',
        "<!ENTITY x 'an own entity'>",
        "<!ENTITY x '&#160;'>",
    ],
)
@pytest.mark.parametrize("use", ["", "&x;"])
def test_own_entities_are_refused(declaration: str, use: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("TOP SECRET")
    doctype = f"<!DOCTYPE x [{declaration.format(uri=secret.as_uri())}]>"
    records, damage = read_damaged(file_of(titled(1, f"a{use}b"), doctype=doctype))
    assert records == []
    assert damage.place == "at the start"
    assert "declares entities of its own" in damage.cause
    assert "SECRET" not in str(damage)


def test_system_files_are_never_read() -> None:
    doctype = '<!DOCTYPE x [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    records, damage = read_damaged(file_of(titled(1, "&x;"), doctype=doctype))
    assert records == []
    assert "root:" not in str(damage)


def test_includes_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("TOP SECRET")
    uri = (tmp_path / "secret").as_uri()
    include = f'<x:include xmlns:x="http://www.w3.org/2001/XInclude" href="{uri}" parse="text"/>'
    assert read(file_of(titled(1, f"a{include}b"))) == [Citation(1, "ab", 2)]


def test_dtd_is_never_fetched() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        dtd = (
            f'<!DOCTYPE PubmedArticleSet SYSTEM "http://127.0.0.1:{server.getsockname()[1]}/x.dtd">'
        )
        assert read(file_of(titled(1), doctype=dtd)) == [Citation(1, "Fine.", 5)]
        with pytest.raises(BlockingIOError):
            server.accept()  # nobody called


def test_dtd_beside_the_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pubmed.dtd").write_text("<!ENTITY nbsp ' '>")
    monkeypatch.chdir(tmp_path)
    assert read(file_of(titled(1, "a&nbsp;b"), doctype=EXTERNAL_DTD)) == [
        Rejection("record 1, PMID 1", "entity &nbsp; is not defined in the file", 1)
    ]


def test_entity_of_the_dtd_makes_up_no_text() -> None:
    # With a DTD that is not loaded, an undefined entity is no fault to the parser.
    data = file_of(titled(1), titled(2, "a <i>&nbsp;</i> b"), titled(3), doctype=EXTERNAL_DTD)
    assert read(data) == [
        Citation(1, "Fine.", 5),
        Rejection("record 2, PMID 2", "entity &nbsp; is not defined in the file", 2),
        Citation(3, "Fine.", 5),
    ]


_LAUGHS = "".join(f"<!ENTITY l{n} '{f'&l{n - 1};' * 10}'>" for n in range(1, 12))


@pytest.mark.parametrize(
    ("entities", "record"),
    [
        (f"<!ENTITY l0 'ha'>{_LAUGHS}", titled(1, "&l11;")),
        (f"<!ENTITY l0 'ha'>{_LAUGHS}", "<PubmedArticle x='&l11;'/>"),
        (f"<!ENTITY q '{'q' * 60_000}'>", titled(1, "&q;" * 50_000)),
        (f"<!ENTITY q '{'q' * 60_000}'>", f"<PubmedArticle x='{'&q;' * 50_000}'/>"),
        ("<!ENTITY a '&b;'><!ENTITY b '&a;'>", titled(1, "&a;")),
        ("<!ENTITY a '&b;'><!ENTITY b '&a;'>", "<PubmedArticle x='&a;'/>"),
    ],
    ids=["laughs in text", "laughs in attribute", "quadratic in text", "quadratic in attribute",
         "loop in text", "loop in attribute"],
)  # fmt: skip
def test_entity_bombs(entities: str, record: str) -> None:
    memory, start = peak_mb(), time.monotonic()
    records, damage = read_damaged(file_of(record, doctype=f"<!DOCTYPE x [{entities}]>"))
    assert records == []
    assert damage.place == "at the start"
    assert time.monotonic() - start < 10
    assert peak_mb() - memory < 32


_AUTHOR = f"<Author><LastName>Nobody</LastName><Affiliation>{'x' * 900}</Affiliation></Author>"


@pytest.mark.parametrize(
    ("unit", "cause"),
    [
        (_AUTHOR, "a record of more than 8 MiB"),
        (f"<!--{'x' * 900}-->", "a record of more than 8 MiB"),
        ("x" * 1000, "a record of more than 8 MiB"),
    ],
    ids=["tags", "comments", "text"],
)
def test_oversized_record(unit: str, cause: str) -> None:
    head = file_of(titled(1)).removesuffix(b"</PubmedArticleSet>")
    stream = Endless(head + b"<PubmedArticle><MedlineCitation>", unit.encode())
    records, damage = read_damaged(stream)
    assert records == [Citation(1, "Fine.", 5)]
    assert damage.place == "after record 1 (PMID 1)"
    assert cause in damage.cause
    assert stream.given < MAX_RECORD_BYTES + (1 << 18)


def test_memory_does_not_grow_with_the_file() -> None:
    record = title("Fine." + " x" * 10_000).encode()
    stream = Endless(b"<PubmedArticleSet>", record, 2000, b"</PubmedArticleSet>")
    memory = peak_mb()
    assert sum(1 for _ in read_pubmed_xml(stream)) == 2000
    assert stream.given > 2 * MAX_RECORD_BYTES
    assert peak_mb() - memory < 16


@pytest.mark.parametrize(
    ("located", "listed", "doi"),
    [
        (["N 10.9/a", "Y 10.9/b"], [], "10.9/b"),
        (["N 10.9/a"], ["10.9/b"], "10.9/b"),
        (["N 10.9/A"], ["10.9/a", "10.9/c"], "10.9/c"),
        (["N 10.9/a"], [], None),
    ],
)
def test_a_doi_that_nlm_says_is_not_valid_is_none(
    located: list[str], listed: list[str], doi: str | None
) -> None:
    places = "".join(
        f"<ELocationID EIdType='doi' ValidYN='{place[0]}'>{place[2:]}</ELocationID>"
        for place in located
    )
    ids = "".join(f"<ArticleId IdType='doi'>{i}</ArticleId>" for i in listed)
    record = article(
        f"<ArticleTitle>T.</ArticleTitle>{places}",
        after=f"<PubmedData><ArticleIdList>{ids}</ArticleIdList></PubmedData>",
    )
    assert read(file_of(record)) == [citation("T.", 2, doi=doi)]


# Faults that harm nobody.


@pytest.mark.parametrize(
    ("data", "texts"),
    [
        (b"\n \t" + file_of(titled(1)), ["Fine."]),
        (b"\xef\xbb\xbf\r\n" + file_of(titled(1)), ["Fine."]),
        (b" \xef\xbb\xbf\n" + file_of(titled(1)), ["Fine."]),
        (file_of("<!-- <![CDATA[ ]]> -->", article("<ArticleTitle>A ]]> b.</ArticleTitle>")),
         ["A ]]> b."]),
        (file_of(article("<ArticleTitle>A [[1]]> 5.</ArticleTitle>"), titled(1)),
         ["A [[1]]> 5.", "Fine."]),
        (file_of(article("<ArticleTitle><![CDATA[<a>]]> ]]> <![CDATA[b]]>.</ArticleTitle>")),
         ["<a> ]]> b."]),
        (file_of(article("<ArticleTitle>A <mml:math x:y='1'><foo:mi>k</foo:mi></mml:math>."
                         "</ArticleTitle>"), titled(1)), ["A k.", "Fine."]),
    ],
)  # fmt: skip
def test_small_faults_cost_nothing(data: bytes, texts: list[str]) -> None:
    assert [c.text for c in read(data) if isinstance(c, Citation)] == texts


def test_a_prefix_that_is_not_declared_hides_no_other_fault() -> None:
    odd = article("<ArticleTitle>A <mml:mi>k</mml:mi>.</ArticleTitle>")
    whole = file_of(odd, titled(1))
    with pytest.raises(DamagedSource, match=r"after record 1"):
        read(whole[: whole.rindex(b"<ArticleTitle>")])


def test_the_only_abstract_is_read_where_it_would_be_cut() -> None:
    journal = "<MedlineJournalInfo><MedlineTA>J</MedlineTA></MedlineJournalInfo>"
    other = "<OtherAbstract Type='PIP'><AbstractText>P.</AbstractText></OtherAbstract>"
    own = "<Abstract><AbstractText>A.</AbstractText></Abstract>"
    blank = "<Abstract><AbstractText>&#160;</AbstractText></Abstract>"
    bare, empty, full = (
        article(f"<ArticleTitle>T.</ArticleTitle>{abstract}", f"{journal}<X/>{other}<Y/>")
        for abstract in ("", blank, own)
    )
    data = b"<PubmedArticleSet>" + (bare + empty + full).encode() + b"</PubmedArticleSet>"
    assert [c.text for c in read(data) if isinstance(c, Citation)] == ["T. P.", "T. P.", "T. A."]
    assert data.count(b"P.") == 3 and b"".join(skim([data])).count(b"P.") == 2
