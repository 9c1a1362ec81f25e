"""The tags codec: mentions of several types to target text and back."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.codecs.tags import decode, encode
from schemas.spans import Span, TypedSpan, trim

TYPES = ("disease", "gene")
MARKER = re.compile("</?(?:disease|gene)>")
TEXTS = st.lists(st.sampled_from(["<gene", "</", ">", " ", "a", "\u00a0"]) | st.text()).map("".join)


@st.composite
def marked_texts(draw: st.DrawFn) -> tuple[str, list[TypedSpan]]:
    """Any text without markers, any spans of it; those of one type do not overlap."""
    text = draw(TEXTS.filter(lambda t: not MARKER.search(t)))
    spans = []
    for kind in TYPES:
        ends = sorted(draw(st.lists(st.integers(0, len(text)), max_size=6)))
        pairs = zip(ends[::2], ends[1::2], strict=False)
        found = [trim(text, Span(*pair)) for pair in pairs]
        spans += [TypedSpan(*s, kind) for s in found if s.start < s.end]
    return text, spans


@given(marked_texts())
def test_what_was_marked_comes_back(case: tuple[str, list[TypedSpan]]) -> None:
    text, mentions = case
    marked = decode(encode(text, mentions), TYPES)
    assert marked.text == text
    assert not marked.faults
    found = [(*trim(text, m.span), m.entity_type) for m in marked.marks]
    assert sorted(found) == sorted(tuple(m) for m in mentions)


def test_white_space_before_a_mention_is_inside_its_mark() -> None:
    mentions = [TypedSpan(4, 7, "gene"), TypedSpan(4, 14, "disease"), TypedSpan(15, 18, "gene")]
    assert encode("the ATM cancer TP5", mentions) == (
        "the<disease><gene> ATM</gene> cancer</disease><gene> TP5</gene>"
    )


@pytest.mark.parametrize(
    ("text", "mentions"),
    [
        ("abc", [TypedSpan(0, 2, "gene"), TypedSpan(1, 3, "gene")]),
        ("abc", [TypedSpan(1, 1, "gene")]),
        ("abc", [TypedSpan(1, 4, "gene")]),
        ("a <gene> b", [TypedSpan(0, 1, "gene")]),
    ],
)
def test_what_it_cannot_say_is_refused(text: str, mentions: list[TypedSpan]) -> None:
    with pytest.raises(ValueError, match=r"overlaps|leaves|marker"):
        encode(text, mentions)


@pytest.mark.parametrize(
    ("completion", "spans", "faults"),
    [
        ("<gene>a<disease>b</gene>c</disease>", [(0, 2, "gene"), (1, 3, "disease")], []),
        ("<gene>a<gene>b</gene></gene>", [(0, 2, "gene")], ["nested"]),
        ("a</gene>", [], ["unopened"]),
        ("<gene>a", [], ["unclosed"]),
        ("<gene></gene>a", [], ["empty"]),
        ("<virus>a</virus>", [], []),
    ],
)
def test_faults(completion: str, spans: list[tuple[int, int, str]], faults: list[str]) -> None:
    marked = decode(completion, TYPES)
    assert [(*m.span, m.entity_type) for m in marked.marks] == spans
    assert marked.faults == faults


def test_markers_of_types_not_asked_for_are_text() -> None:
    assert decode("<virus>a</virus>", TYPES).text == "<virus>a</virus>"
