"""PubTator: what our own export writes is read back, and every kind of damage is named."""

import io
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.corpora.formats.pubtator import read_pubtator
from engine.corpora.formats.texts import REASONS, AnnotatedText, Fault
from engine.views.export import write
from schemas.annotations import MENTION
from schemas.citation import lay_out_text
from schemas.spans import Span, TypedSpan

TITLE, ABSTRACT = "Gout and flu", "Gout is rare. Flu is not."


def block(*mentions: str, head: str = f"7|t|{TITLE}\n7|a|{ABSTRACT}\n") -> str:
    return head + "".join(m.replace(" ", "\t", 4) + "\n" for m in mentions) + "\n"


def read(text: str | bytes) -> list[AnnotatedText | Fault]:
    found = list(read_pubtator(io.BytesIO(text.encode() if isinstance(text, str) else text)))
    for item in found:
        for fault in item.faults if isinstance(item, AnnotatedText) else [item]:
            assert fault.reason in REASONS
    return found


def one(text: str | bytes) -> AnnotatedText:
    (found,) = read(text)
    assert isinstance(found, AnnotatedText)
    return found


def test_a_block_is_a_citation() -> None:
    found = one(
        block("7 9 12 flu Disease\tD1", "7 0 4 Gout Disease", "7 13 17 Gout Disease\tD2\tx")
    )
    assert found == AnnotatedText(
        "7",
        "line 1, document 7",
        f"{TITLE} {ABSTRACT}",
        [TypedSpan(0, 4, "Disease"), TypedSpan(9, 12, "Disease"), TypedSpan(13, 17, "Disease")],
        "citation",
        7,
        12,
    )


@pytest.mark.parametrize(
    ("head", "text", "title_length"),
    [
        ("7|t|Gout\n7|a|\n", "Gout", 4),
        ("7|t|Gout\n", "Gout", 4),
        ("7|t|\n7|a|Gout\n", " Gout", 0),
        ("7|t|a|b|t|c\n7|a|d\r\n", "a|b|t|c d", 7),
        ("7|a|d\n7|t|c\n", None, None),
    ],
)
def test_layout(head: str, text: str | None, title_length: int | None) -> None:
    found = read(block(head=head))
    if text is not None:
        assert isinstance(found[0], AnnotatedText)
        assert (found[0].text, found[0].title_length) == (text, title_length)
    else:  # the abstract alone is no block, and the title is one of its own
        assert isinstance(found[0], Fault)


def test_blocks_without_an_empty_line_between() -> None:
    found = read("1|t|A\n1|a|B\n2|t|C\n2|a|D\n2\t0\t1\tC\tGene\n")
    assert [i.document for i in found if isinstance(i, AnnotatedText)] == ["1", "2"]


def test_a_number_that_is_no_pmid() -> None:
    assert one("PMC12|t|Gout\n").pmid is None


def test_relations_are_passed_over() -> None:
    found = one(block("7 9 12 flu Disease") + "")
    with_relation = (
        block("7 9 12 flu Disease")[:-1] + "7\tCID\tD003\tD002\n7\tTreats\tD1\tD2\tNo\n\n"
    )
    assert one(with_relation) == found


@pytest.mark.parametrize(
    "relation",
    [
        "7\tassociate\tD1\tD2",
        "7\tINDIRECT-DOWNREGULATOR\tArg1:T1\tArg2:T2",
        "7\tCPR:4\tT1\tT2\tY\tgold\t0.5\tx\ty",
        "7\tpositive correlate\tD1",
        "7\tx\t672\t675",
        "7\tAssociation\t672\tD1\tNovel",
        "7\t2-hop\tD1\tD2",
        "7\tdrug|target\tChemical|D1\tGene|12\tNo\t",
        "7\tNegated\tT1",
        "7\tÄhnlich\t9\tD1\tD2",
    ],
)
def test_a_relation_may_have_any_name_and_any_number_of_columns(relation: str) -> None:
    without = block("7 9 12 flu Disease")
    last = one(without[:-1] + relation + "\n\n")
    first = one(without.replace("7\t9", f"{relation}\n7\t9"))
    assert last == first == one(without)


def test_an_empty_line_within_a_block_does_not_end_it() -> None:
    apart = "7|t|Gout\n\n7|a|Flu.\n\n7\t5\t8\tFlu\tDisease\n\n7\tCID\tD1\tD2\n\n8|t|Gout\n"
    first, second = read(apart)
    assert first == one("7|t|Gout\n7|a|Flu.\n7\t5\t8\tFlu\tDisease\n")
    assert isinstance(second, AnnotatedText) and second.document == "8"
    # What names another document is none of its lines.
    assert [type(i) for i in read("7|t|Gout\n\n8\t0\t4\tGout\tDisease\n")] == [
        AnnotatedText, Fault,
    ]  # fmt: skip


ASTRAL_HEAD = "7|t|Göut 😀 and flu\n7|a|Gout is rare. Flu is not.\n"


@pytest.mark.parametrize(
    ("rows", "count"),
    [
        (["0 4 Göut", "12 15 flu", "16 20 Gout", "30 33 Flu"], "UTF-16 units"),
        (["0 5 Göut", "15 18 flu", "19 23 Gout", "33 36 Flu"], "UTF-8 bytes"),
        (["0 4 Göut", "11 14 flu", "16 20 Gout"], "code points, each line end as 2"),
        (["0 4 Göut", "11 14 flu", "14 18 Gout"], "code points, each line end as 0"),
        (["1 5 Göut", "12 15 flu", "16 20 Gout"], "code points, with 1 ahead of the text"),
        (
            ["0 4 Göut", "11 14 flu", "0 4 Gout", "14 17 Flu"],
            "code points, from the start of the passage",
        ),
        (
            ["0 4 Göut", "12 15 flu", "8 12 rare", "0 3 Flu"],
            "UTF-16 units, from the start of the sentence",
        ),
        (["14 17 Flu", "0 4 Göut", "11 14 flu"], "code points, from the start of the passage"),
        (["20 23 Flu", "0 4 Göut", "12 15 flu"], None),
    ],
)
def test_offsets_in_another_count(rows: list[str], count: str | None) -> None:
    lines = [f"7 {row} Disease" for row in rows]
    read_so = one(block(*lines, head=ASTRAL_HEAD))
    assert read_so.count == count
    if count is not None:
        assert read_so.faults == []
        texts = sorted(read_so.text[m.start : m.end] for m in read_so.mentions)
        assert texts == sorted(row.split()[2] for row in rows)


def test_a_document_most_of_whose_mentions_differ_is_not_gold() -> None:
    wrong = ["7 2 6 Gout Disease", "7 10 13 flu Disease", "7 0 4 Gout Disease"]
    fatal = [f for f in one(block(*wrong)).faults if f.fatal]
    assert [(f.place, f.reason, f.span) for f in fatal] == [
        ("line 1, document 7", "text differs", None)
    ]
    assert fatal[0].found.startswith("2 of 3 mentions are not what stands at their offsets")
    # Half of them are not most.
    half = one(block(*wrong[1:]))
    assert half.count is None and not any(f.fatal for f in half.faults)


def test_text_that_differs_stays_where_its_offsets_say() -> None:
    found = one(block("7 9 12 Flu Disease"))
    assert found.mentions == [TypedSpan(9, 12, "Disease")]
    first, second = found.faults
    assert first.place == "line 3, document 7"
    assert first.found == "'Flu' at 9-12, where 'flu' stands"
    assert (first.span, first.fatal) == (Span(9, 12), False)
    # It may be meant where it stands unmarked.
    assert (second.span, second.fatal) == (Span(27, 30), False)


@pytest.mark.parametrize(
    ("line", "reason", "message"),
    [
        ("7 30 99 x Disease", "outside the text", "'x' at 30-99 of 38 code points"),
        ("7 4 4 x Disease", "outside the text", "'x' at 4-4 of 38 code points"),
        ("8 0 4 Gout Disease", "malformed line", "expected a mention of document 7"),
        ("7 a 4 Gout Disease", "malformed line", "expected PMID, start, end, text, type"),
        ("7 1.5 4 Gout Disease", "malformed line", "expected PMID, start, end, text, type"),
        ("7  4 Gout Disease", "malformed line", "expected PMID, start, end, text, type"),
        ("7 O 4 Gout Disease", "malformed line", "expected PMID, start, end, text, type"),
        ("7 -1 4 Gout Disease", "malformed line", "expected PMID, start, end, text, type"),
        ("7 0 4 Gout", "malformed line", "expected PMID, start, end, text, type"),
        ("7 0 4 Gout  ", "malformed line", "expected PMID, start, end, text, type"),
        ("gout", "malformed line", "expected a mention of document 7"),
    ],
)
def test_a_fault_of_which_the_place_is_unknown(line: str, reason: str, message: str) -> None:
    found = one(block("7 0 4 Gout Disease", line))
    (fault,) = found.faults
    assert (fault.place, fault.reason) == ("line 4, document 7", reason)
    assert message in fault.found
    assert (fault.span, fault.fatal) == (None, True)
    assert (found.mentions, found.unplaced) == ([TypedSpan(0, 4, "Disease")], 1)


def test_a_mention_given_twice() -> None:
    found = one(block("7 0 4 Gout Disease\t1", "7 0 4 Gout Disease\t2", "7 0 4 Gout Gene"))
    assert found.mentions == [TypedSpan(0, 4, "Disease"), TypedSpan(0, 4, "Gene")]
    assert [(f.reason, f.fatal) for f in found.faults] == [("repeated mention", False)]
    assert found.unplaced == 1


def test_bytes_that_are_no_text_make_the_block_fatal() -> None:
    text = block("7 0 4 Gout Disease").encode().replace(b"rare", b"r\xe4re")
    fault = read(text)[0]
    assert isinstance(fault, AnnotatedText)
    assert [(f.place, f.reason, f.fatal) for f in fault.faults if f.reason == "not UTF-8"] == [
        ("line 2, document 7", "not UTF-8", True)
    ]


@pytest.mark.parametrize(
    "text",
    ["7\t0\t4\tGout\tDisease\n", "7|a|Gout\n", "no PubTator\n", "7|t|Gout\n8|a|Flu\n"],
)
def test_no_text(text: str) -> None:
    (found,) = read(text)
    assert isinstance(found, Fault)
    assert found.reason == "malformed text"


def test_nothing() -> None:
    assert read("") == read("\n\n") == []


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@st.composite
def citations(draw: st.DrawFn) -> tuple[int, str, int, list[TypedSpan]]:
    text, title_length = lay_out_text(draw(WORDS), [(None, draw(WORDS))])
    places = st.integers(0, len(text))
    spans = draw(st.sets(st.tuples(places, places, st.sampled_from(["Gene", "A b"]))))
    mentions = sorted(TypedSpan(*s) for s in spans if s[0] < s[1])
    return draw(st.integers(1, 10**9)), text, title_length, mentions


@given(st.lists(citations(), max_size=3))
def test_what_we_export_is_read_back(rows: list[tuple[int, str, int, list[TypedSpan]]]) -> None:
    def full(text: str, m: TypedSpan) -> dict[str, Any]:
        row: dict[str, Any] = dict.fromkeys(f.name for f in MENTION)
        row |= m._asdict() | {"text": text[m.start : m.end]}
        return row

    schema = pa.schema(
        [("pmid", pa.int64()), ("text", pa.string()), ("title_length", pa.int32()),
         ("mentions", pa.list_(MENTION))]
    )  # fmt: skip
    table = [
        {"pmid": p, "text": t, "title_length": n, "mentions": [full(t, m) for m in ms]}
        for p, t, n, ms in rows
    ]
    out = io.BytesIO()
    write(pa.Table.from_pylist(table, schema).to_batches(), "pubtator", out, zipped=False)
    found = read(out.getvalue())
    assert [
        (i.pmid, i.text, i.title_length, i.mentions, i.faults)
        for i in found
        if isinstance(i, AnnotatedText)
    ] == [(*row, []) for row in rows]
