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
