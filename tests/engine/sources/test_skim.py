"""Skimming: no record changes by it, whatever stands in it; what is cut, and when nothing is."""

import gzip
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.sources import pubmed_xml
from engine.sources.pubmed_xml import Record, read_pubmed_xml
from engine.sources.skim import skim
from schemas.citation import Citation, Rejection
from schemas.errors import DamagedSource

REAL_FILES = Path(__file__).parents[3] / "../shared/data/pubmed-xml"
AUTHORS = '<AuthorList CompleteYN="Y"><Author><LastName>Nobody</LastName></Author></AuthorList>'
JOURNAL = "<MedlineJournalInfo><Country>X</Country><MedlineTA>J X</MedlineTA></MedlineJournalInfo>"
MESH = "<MeshHeadingList><MeshHeading>M</MeshHeading></MeshHeadingList>"
HISTORY = "<History><PubMedPubDate><Year>1999</Year></PubMedPubDate></History>"
IDS = "<ArticleIdList><ArticleId IdType='doi'>10.9/a</ArticleId></ArticleIdList>"
REFERENCES = (
    "<ReferenceList><Reference><Citation>C</Citation><ArticleIdList>"
    "<ArticleId IdType='doi'>10.9/r</ArticleId></ArticleIdList></Reference></ReferenceList>"
)
TITLE = "<ArticleTitle>T.</ArticleTitle>"
DATES = "<DateCompleted><Year>2001</Year><Month>02</Month></DateCompleted>"
LANGUAGE = "<Language>eng</Language>"


def record(
    article: str = TITLE + AUTHORS + LANGUAGE,
    after: str = JOURNAL + MESH,
    data: str = HISTORY + IDS + REFERENCES,
    pmid: str = '<PMID Version="1">1</PMID>',
    dates: str = DATES,
) -> str:
    return (
        f'<PubmedArticle><MedlineCitation Status="MEDLINE">{pmid}{dates}<Article>{article}'
        f"</Article>{after}</MedlineCitation><PubmedData>{data}</PubmedData></PubmedArticle>"
    )


def file_of(*records: str, start: str = "<?xml version='1.0'?><PubmedArticleSet>") -> bytes:
    return f"{start}{''.join(records)}</PubmedArticleSet>".encode()


def skimmed(data: bytes, piece: int = 1 << 17) -> bytes:
    return b"".join(skim(data[i : i + piece] for i in range(0, len(data), piece)))


def outcome(data: bytes) -> tuple[list[Record], str]:
    records = []
    try:
        for found in read_pubmed_xml(io.BytesIO(data)):
            records.append(found)
    except DamagedSource as e:
        return records, e.place
    return records, ""


def whole(data: bytes) -> tuple[list[Record], str]:
    """What is read without skimming."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pubmed_xml, "skim", lambda pieces: pieces)
        return outcome(data)


def test_what_is_cut() -> None:
    kept = record(TITLE + LANGUAGE, JOURNAL, IDS, dates="")
    assert skimmed(file_of(record(), record())) == file_of(kept, kept)


def test_what_is_cut_with_white_space() -> None:
    data = file_of(record(), record()).replace(b"><", b">\n  <")
    assert skimmed(data).count(b"List") == 4  # the tags of ArticleIdList
    assert outcome(data) == whole(data)


@pytest.mark.parametrize(
    "start",
    [
        "<PubmedArticleSet>",
        "\ufeff<PubmedArticleSet>\n",
        '<?xml version="1.0" encoding="UTF-8"?>\n<PubmedArticleSet>',
        '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE PubmedArticleSet PUBLIC '
        '"-//NLM//DTD PubMedArticle, 1st January 2025//EN" "https://x/pubmed_250101.dtd">\n'
        "<PubmedArticleSet>\n",
    ],
)
def test_beginnings_as_nlm_writes_them(start: str) -> None:
    assert len(skimmed(file_of(record(), start=start))) < len(file_of(record())) / 1.5


@pytest.mark.parametrize(
    "start",
    [
        "<?xml version='1.0' encoding='iso-8859-1'?><PubmedArticleSet>",
        "<?xml version='1.1'?><PubmedArticleSet>",
        "<!DOCTYPE PubmedArticleSet [<!ENTITY x 'y'>]><PubmedArticleSet>",
        "<!DOCTYPE PubmedArticleSet SYSTEM 'x' []><PubmedArticleSet>",
        "<!-- <PubmedArticleSet> --><PubmedArticleSet>",
        "<PubmedArticleSet><!-- ",
        "<PubmedArticleSet><![CDATA[",
        "<?x ?><PubmedArticleSet>",
        "<PubmedArticleSet xmlns='urn:x'>",
        "<PubmedArticleSet><x>",
        "<MedlineCitationSet>",
    ],
)
def test_beginnings_that_pass_whole(start: str) -> None:
    data = file_of(record(), start=start)
    assert skimmed(data) == data
    assert outcome(data) == whole(data)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "cp037"])
def test_other_encodings_pass_whole(encoding: str) -> None:
    data = file_of(record()).decode().encode(encoding)
    assert skimmed(data) == data


# Each guard: nothing is cut where the parser must judge, and nothing is read otherwise.

UNCUT = {
    "comment": record(TITLE + AUTHORS.replace("Nobody", "No<!-- x -->body")),
    "end in a comment": record(TITLE + "<!-- </PubmedArticle> -->" + AUTHORS),
    "list in a comment": record(TITLE + "<!-- <AuthorList> -->" + AUTHORS),
    "CDATA": record(TITLE + AUTHORS.replace("Nobody", "<![CDATA[</AuthorList>]]>")),
    "instruction with tags": record(TITLE + "<?x <AuthorList> ?>" + AUTHORS),
    "doctype in the middle": record(TITLE + "<!DOCTYPE x>"),
}  # fmt: skip
PARTLY = {
    "authors without an end": (record(TITLE + AUTHORS.replace("</AuthorList>", "")), "AuthorList"),
    "authors without a beginning": (
        record(TITLE + AUTHORS.replace('<AuthorList CompleteYN="Y">', "")),
        "AuthorList",
    ),
    "authors that end in the next record": (
        record(TITLE + AUTHORS.replace("</AuthorList>", ""))
        + record(TITLE + AUTHORS.replace('<AuthorList CompleteYN="Y">', "")),
        "AuthorList",
    ),
    "authors in authors": (
        record(TITLE + AUTHORS.replace("<Author>", "<AuthorList><Author/></AuthorList><Author>")),
        "AuthorList",
    ),
    "empty authors": (record(TITLE + '<AuthorList CompleteYN="Y"/>'), "AuthorList"),
    "authors in the title": (
        record(f"<ArticleTitle>a {AUTHORS} b</ArticleTitle>"),
        "AuthorList",
    ),
    "authors in the abstract": (
        record(f"{TITLE}<Abstract><AbstractText>a {AUTHORS} b</AbstractText></Abstract>"),
        "AuthorList",
    ),
    "authors in the abstract after a literal '/>'": (
        record(
            "<ArticleTitle>/> /> /></ArticleTitle>"
            f"<Abstract><AbstractText>a {AUTHORS} b</AbstractText></Abstract>"
        ),
        "AuthorList",
    ),
    "journal before the article": (
        record(pmid=f'<PMID Version="1">1</PMID>{JOURNAL}', after=MESH, dates=""),
        "MeshHeadingList",
    ),
    "journal without its name": (
        record(after=f"<MedlineJournalInfo/>{MESH}{JOURNAL}".replace("<MedlineJournalInfo/>",
               "<MedlineJournalInfo><Country>X</Country></MedlineJournalInfo>")),
        "MeshHeadingList",
    ),
    "rest of the citation without an end": (
        record().replace("</MeshHeadingList></MedlineCitation>", "</MeshHeadingList>"),
        "MeshHeadingList",
    ),
    "history without an end": (record(data=HISTORY.replace("</History>", "")), "History"),
    "history in an id": (
        record(data=IDS.replace("10.9/a", f"10.9/{HISTORY}a")),
        "History",
    ),
    "references without an end": (
        record(data=IDS + REFERENCES.replace("</ReferenceList>", "")), "ReferenceList",
    ),
    "references in references": (
        record(data=IDS + REFERENCES.replace("<Reference>", f"{REFERENCES}<Reference>")),
        "ReferenceList",
    ),
    "references in an id": (
        record(data=IDS.replace("10.9/a", f"10.9/{REFERENCES}a")),
        "ReferenceList",
    ),
    "article in references": (
        record(data=IDS + REFERENCES.replace("C<", f"C{record()}<")),
        "ReferenceList",
    ),
    "PMID not at the beginning": (
        record(pmid="<X/>", after=f"<PMID>7</PMID>{JOURNAL}{MESH}"),
        "MeshHeadingList",
    ),
    "no article before": (
        "<PubmedArticle><MedlineCitation><PMID>1</PMID>"
        f"{JOURNAL}{MESH}<Article>{TITLE}</Article></MedlineCitation></PubmedArticle>",
        "MeshHeadingList",
    ),
    "bad dates": (record(dates=DATES.replace("</Month>", "")), "DateCompleted"),
    "text among dates": (record(dates=DATES + "x"), "DateCompleted"),
}  # fmt: skip


@pytest.mark.parametrize("inside", UNCUT.values(), ids=UNCUT)
def test_passes_whole(inside: str) -> None:
    data = file_of(inside)
    assert skimmed(data) == data
    assert outcome(data) == whole(data)


def test_what_follows_something_else_passes_whole() -> None:
    for other in ("<!-- x -->", "<PubmedBookArticle/>", "<DeleteCitation/>", "x", "<"):
        data = file_of(record(), record(), other, record())
        cut = record(TITLE + LANGUAGE, JOURNAL, IDS, dates="")
        assert skimmed(data, 10) in (file_of(cut, cut, other, record()), data)
        assert outcome(data) == whole(data)


@pytest.mark.parametrize(("inside", "tag"), PARTLY.values(), ids=PARTLY)
def test_stays_for_the_parser_to_judge(inside: str, tag: str) -> None:
    data = file_of(inside)
    assert skimmed(data).count(f"<{tag}".encode()) == data.count(f"<{tag}".encode())
    assert skimmed(data).count(f"</{tag}".encode()) == data.count(f"</{tag}".encode())
    assert outcome(data) == whole(data)


def test_empty_elements_and_plain_instructions_hinder_nothing() -> None:
    grants = '<GrantList><Grant><Country/><X a="1" b="2"/></Grant></GrantList><?nihms ?>'
    data = file_of(record(TITLE + AUTHORS + grants), record(data=IDS + "<?nihms ?>" + REFERENCES))
    assert not re.search(b"AuthorList|MeshHeading|History|ReferenceList", skimmed(data))
    assert outcome(data) == whole(data)


def test_several_reference_lists() -> None:
    data = file_of(record(data=IDS + REFERENCES * 3))
    assert b"ReferenceList" not in skimmed(data)
    mixed = file_of(record(data="<ArticleIdList/>" + REFERENCES + IDS + REFERENCES))
    assert outcome(mixed) == whole(mixed)
    assert isinstance(found := outcome(mixed)[0][0], Citation)
    assert found.doi == "10.9/a"


def test_faults_that_are_not_noticed_any_more() -> None:
    # A deliberate choice, documented in skim.py: what no column comes from is not looked at.
    for fault in ("<b>", "&nbsp;", "&", "\x01", "\udcff"):
        data = file_of(record(TITLE + AUTHORS.replace("Nobody", "FAULT")))
        data = data.replace(b"FAULT", fault.encode("utf-8", "surrogateescape"))
        records, place = outcome(data)
        assert len(records) == 1
        assert place == ""
        assert isinstance(whole(data)[0][0], Rejection)


def test_record_inside_a_cut_part_is_not_read() -> None:
    inner = "<MedlineCitation><PMID>7</PMID></MedlineCitation>"
    data = file_of(record(TITLE + AUTHORS.replace("Nobody", inner)))
    assert [r.pmid for r in outcome(data)[0] if isinstance(r, Citation)] == [1]
    assert [r.pmid for r in whole(data)[0] if isinstance(r, Citation)] == [7, 1]


def test_record_without_an_end_is_not_held_for_ever() -> None:
    given = 0

    def pieces() -> Iterator[bytes]:
        nonlocal given
        yield b"<PubmedArticleSet><PubmedArticle>"
        while True:
            given += 1 << 16
            yield b"x" * (1 << 16)

    next(skim(pieces()))
    assert given < 5 << 20


def test_error_of_the_source_comes_after_all_that_was_read() -> None:
    def pieces() -> Iterator[bytes]:
        yield file_of(record())[:-40]
        raise EOFError("gone")

    found = []
    with pytest.raises(EOFError, match="gone"):
        for piece in skim(pieces()):
            found.append(piece)
    assert b"".join(found) == file_of(record())[:-40]


@pytest.mark.skipif(not REAL_FILES.is_dir(), reason="no real records in ../shared/data/pubmed-xml")
def test_real_files_read_the_same_skimmed_and_whole() -> None:
    for file in sorted(p for p in REAL_FILES.rglob("*.*") if p.name.endswith((".xml", ".xml.gz"))):
        data = file.read_bytes()
        data = gzip.decompress(data) if file.suffix == ".gz" else data
        assert outcome(data) == whole(data), file.name


# Any record: pieces of markup in and out of place, well formed or not.

_TEXT = st.sampled_from(
    ["", "a", "é 𝒜", "&lt;AuthorList&gt;", "&lt;/PubmedArticle>", "/>", "]]&gt;", "&amp;", "! ?",
     " > ", "\n", "<i>i</i>", "<sub/>", "&#60;!-- ", "10.9/x"]
)  # fmt: skip
# No MedlineCitation: inside a cut part it would be taken for a record, and is not any more.
_NAMES = st.sampled_from(
    ["AuthorList", "Author", "Language", "History", "ReferenceList", "ArticleIdList", "PMID",
     "ArticleTitle", "Abstract", "AbstractText", "MedlineJournalInfo", "MedlineTA",
     "MeshHeadingList", "PubmedData", "Article", "ELocationID"]
)  # fmt: skip
_EXTRA = st.recursive(
    st.one_of(
        _TEXT,
        st.sampled_from([AUTHORS, JOURNAL, MESH, HISTORY, IDS, REFERENCES, TITLE, LANGUAGE, DATES,
                         '<AuthorList CompleteYN="N"/>', "<Country/>", "<?nihms ?>"]),
    ),
    lambda inner: st.builds(
        lambda name, parts: f"<{name}>{''.join(parts)}</{name}>",
        _NAMES, st.lists(inner, max_size=4),
    ),
    max_leaves=8,
)  # fmt: skip


@st.composite
def _records(draw: st.DrawFn) -> str:
    """A record as NLM writes it, with one or two things more at any place between two tags."""
    xml = record(
        f"<Journal><JournalIssue><PubDate><Year>2020</Year></PubDate></JournalIssue>"
        f"<Title>{draw(_TEXT)}</Title></Journal><ArticleTitle>{draw(_TEXT)}</ArticleTitle>"
        f"<Abstract><AbstractText>{draw(_TEXT)}</AbstractText></Abstract>{AUTHORS}{LANGUAGE}"
    )
    for extra in draw(st.lists(_EXTRA, max_size=2)):
        at = draw(st.sampled_from([m.start() for m in re.finditer("<", xml)][1:]))
        xml = xml[:at] + extra + xml[at:]
    return xml


@settings(max_examples=200, deadline=None)
@given(st.lists(_records(), min_size=1, max_size=3), st.integers(1, 3000))
def test_skimming_changes_no_well_formed_record(records: list[str], piece: int) -> None:
    data = file_of(*records)
    assert outcome(data) == whole(data)
    assert skimmed(data, piece) == skimmed(data)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_tag_lost_or_doubled(data: st.DataObject) -> None:
    """A file with one fault: what is read is read the same, or the fault is inside a cut part."""
    good = file_of(record(), record(pmid='<PMID Version="1">2</PMID>'), record())
    tags = [m.span() for m in re.finditer(rb"</?[^<>]+>", good)]
    start, end = data.draw(st.sampled_from(tags))
    times = data.draw(st.sampled_from([0, 2]))
    broken = good[:start] + good[start:end] * times + good[end:]
    if skimmed(broken) == skimmed(good):
        assert outcome(broken) == outcome(good)
    else:
        assert outcome(broken) == whole(broken)
