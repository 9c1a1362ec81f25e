"""Texts to examples: units, types, and what is kept from tuning."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.corpora.examples import UNKNOWN, Built, Unit, build_examples, to_table
from engine.corpora.formats.texts import REASONS, AnnotatedText, Fault
from engine.corpora.types import parse_type_map
from schemas.errors import UsageError
from schemas.examples import EXAMPLES_SCHEMA
from schemas.spans import Span, TypedSpan

TEXT = "Gout and flu Gout is rare. Flu is not."  # title; two sentences
TYPES = "D=disease,X="


def citation(
    *mentions: TypedSpan, faults: tuple[Fault, ...] = (), document: str = "7", text: str = TEXT
) -> AnnotatedText:
    return AnnotatedText(document, "p", text, sorted(mentions), "citation", 7, 12, list(faults))


def line(text: str, *mentions: TypedSpan, document: str = "f:1") -> AnnotatedText:
    return AnnotatedText(document, "p", text, list(mentions), "sentence")


def build(*items: AnnotatedText | Fault, split: str = "train", unit: Unit = "sentence") -> Built:
    built = build_examples([(split, i) for i in items], parse_type_map(TYPES), unit)
    check(built)
    return built


def check(built: Built) -> None:
    for split, c in built.counts.items():
        assert sum(c.read.values()) == (
            sum(c.mentions.values()) + sum(c.left_out.values()) + c.merged + c.lost
        )
        assert c.examples == sum(e.split == split for e in built.examples)
    assert {q.reason for q in built.quarantined} <= set(REASONS)
    names = [(e.document, e.part) for e in built.examples]
    assert len(set(names)) == len(names)


def texts(built: Built) -> list[str]:
    return [e.text for e in built.examples]


def test_a_citation_is_cut_into_sentences() -> None:
    built = build(citation(TypedSpan(0, 4, "D"), TypedSpan(27, 30, "D")))
    assert [(e.part, e.text, e.title_length, e.mentions) for e in built.examples] == [
        (0, "Gout and flu", None, [TypedSpan(0, 4, "disease")]),
        (1, "Gout is rare.", None, []),
        (2, "Flu is not.", None, [TypedSpan(0, 3, "disease")]),
    ]


def test_or_stays_whole() -> None:
    built = build(citation(TypedSpan(27, 30, "D")), unit="citation")
    (example,) = built.examples
    assert (example.text, example.title_length, example.pmid) == (TEXT, 12, 7)


def test_a_sentence_is_not_cut() -> None:
    assert texts(build(line("Gout. Flu."))) == ["Gout. Flu."]


def test_types_left_out_are_counted() -> None:
    built = build(citation(TypedSpan(0, 4, "X"), TypedSpan(0, 4, "D")), unit="citation")
    assert built.examples[0].mentions == [TypedSpan(0, 4, "disease")]
    assert built.counts["train"].left_out == {"X": 1}


def test_two_own_types_that_become_one() -> None:
    types = parse_type_map("A=gene,B=gene")
    item = citation(TypedSpan(0, 4, "A"), TypedSpan(0, 4, "B"))
    built = build_examples([("train", item)], types, "citation")
    check(built)
    assert (built.examples[0].mentions, built.counts["train"].merged) == (
        [TypedSpan(0, 4, "gene")],
        1,
    )


def test_an_unknown_type_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"p: entity type 'Z', expected one of .*: D, X"):
        build(citation(TypedSpan(0, 4, "Z")))


DOUBT = Fault("line 9", "text differs", "what", Span(13, 17), fatal=False)
FATAL = Fault("line 9", "discontinuous mention", "what", Span(13, 17))


@pytest.mark.parametrize(
    ("fault", "split", "kept"),
    [
        (DOUBT, "train", False),
        (DOUBT, "dev", False),
        (DOUBT, "test", True),
        (FATAL, "train", False),
        (FATAL, "test", False),
    ],
)
def test_the_sentence_that_holds_a_fault(fault: Fault, split: str, kept: bool) -> None:
    built = build(citation(TypedSpan(13, 17, "D"), faults=(fault,)), split=split)
    assert ("Gout is rare." in texts(built)) == kept
    assert texts(built)[0] == "Gout and flu"
    (row,) = built.quarantined
    assert (row.split, row.document, row.part, row.text) == (split, "7", 1, "Gout is rare.")
    assert (row.place, row.reason, row.kept) == ("line 9", fault.reason, kept)
    assert built.counts[split].lost == (0 if kept else 1)


def test_a_fault_without_place_is_held_against_the_whole_text() -> None:
    everywhere = Fault("line 9", "outside the text", "what")
    between = Fault("line 9", "text differs", "what", Span(12, 13))
    for fault in (everywhere, between):
        assert texts(build(citation(faults=(fault,)))) == []


def test_a_mention_that_a_border_cuts_takes_both_sentences_out() -> None:
    built = build(citation(TypedSpan(21, 30, "D"), TypedSpan(13, 17, "D")), split="test")
    assert texts(built) == ["Gout and flu"]
    assert [(q.reason, q.part, q.found) for q in built.quarantined] == [
        ("cut by a sentence's border", 1, "'rare. Flu' at 21-30"),
        ("cut by a sentence's border", 2, "'rare. Flu' at 21-30"),
    ]
    assert built.counts["test"].lost == 2
    assert texts(build(citation(TypedSpan(21, 30, "D")), unit="citation")) == [TEXT]


def test_a_fault_without_text() -> None:
    built = build(Fault("line 3", "malformed text", "what"), citation())
    row = built.quarantined[0]
    assert (row.place, row.document, row.text, row.kept) == ("line 3", None, None, False)
    assert built.counts["train"].quarantined == {"malformed text": 1}


def test_repeated_texts_stay_once_for_tuning() -> None:
    items = [line("Gout", document=f"f:{n}") for n in range(3)]
    built = build(*items)
    assert [e.document for e in built.examples] == ["f:0"]
    assert [(q.document, q.found) for q in built.quarantined] == [
        ("f:1", "also document f:0, part 0 (train)"),
        ("f:2", "also document f:0, part 0 (train)"),
    ]


def test_repeated_texts_all_stay_in_a_test() -> None:
    built = build(line("Gout", document="a"), line("Gout", document="b"), split="test")
    assert texts(built) == ["Gout", "Gout"]
    assert built.counts["test"].reported == {"repeated text": 1}


def test_texts_with_different_mentions_go_wherever_they_stand() -> None:
    items = [line("Gout", TypedSpan(0, 4, "D"), document="a"), line("Gout", document="b")]
    built = build(*items)
    assert texts(built) == []
    assert built.counts["train"].quarantined == {"contradicted text": 2}
    assert texts(build(*items, split="test")) == ["Gout", "Gout"]


def test_a_tests_gold_decides_nothing_about_train() -> None:
    items = [("train", line("Gout", document="a")),
             ("test", line("Gout", TypedSpan(0, 4, "D"), document="b"))]  # fmt: skip
    built = build_examples(items, parse_type_map(TYPES), "sentence")
    assert len(built.examples) == 2


def test_an_unknown_split_is_quarantined() -> None:
    built = build(line("Gout"), split=UNKNOWN)
    assert texts(built) == []
    assert [q.reason for q in built.quarantined] == ["unknown document"]


def test_an_empty_text_is_no_example() -> None:
    for unit in ("sentence", "citation"):
        built = build(AnnotatedText("7", "p", "", [], "citation", 7, 0), unit=unit, split="test")
        assert texts(built) == []
        assert [q.reason for q in built.quarantined] == ["malformed text"]


def test_parts_go_on_where_a_document_has_several_texts() -> None:
    built = build(citation(), citation(text="Other and so More."))
    assert [(e.document, e.part) for e in built.examples] == [("7", n) for n in range(5)]
    assert built.counts["train"].documents == 1


def test_to_table() -> None:
    built = build(citation(TypedSpan(27, 30, "D")))
    table = to_table(built.examples, "C", "sentence", ["disease"])
    assert table.schema == EXAMPLES_SCHEMA
    assert table.to_pylist()[2] == {
        "corpus": "C", "split": "train", "document": "7", "part": 2, "pmid": 7, "unit": "sentence",
        "form": "raw", "text": "Flu is not.", "title_length": None,
        "mentions": [{"start": 0, "end": 3, "text": "Flu", "entity_type": "disease"}],
        "annotated_types": ["disease"],
    }  # fmt: skip
    assert isinstance(to_table([], "C", "sentence", []), pa.Table)


@st.composite
def anything(draw: st.DrawFn) -> AnnotatedText:
    text = "".join(
        draw(st.lists(st.sampled_from(["Gout. ", "𝒜 ", "flu\n", ". ", "A"]), max_size=9))
    )
    place = st.integers(0, len(text))
    spans = [Span(*sorted(p)) for p in draw(st.lists(st.tuples(place, place), max_size=4))]
    mentions = {TypedSpan(*s, draw(st.sampled_from("DX"))) for s in spans if s.start < s.end}
    faults = [
        Fault("p", "text differs", "", draw(st.sampled_from([None, *spans])), draw(st.booleans()))
        for _ in range(draw(st.integers(0, 1)))
    ]
    title = draw(st.integers(0, len(text)))
    return AnnotatedText(
        draw(st.sampled_from("ab")), "p", text, sorted(mentions), "citation", 7, title, faults
    )


@given(st.lists(st.tuples(st.sampled_from(["train", "dev", "test"]), anything()), max_size=4))
def test_whatever_comes_is_accounted_for(items: list[tuple[str, AnnotatedText]]) -> None:
    for unit in ("sentence", "citation"):
        built = build_examples(items, parse_type_map(TYPES), unit)
        check(built)
        for row in to_table(built.examples, "C", unit, ["disease"]).to_pylist():
            for m in row["mentions"]:
                assert row["text"][m["start"] : m["end"]] == m["text"] != ""
