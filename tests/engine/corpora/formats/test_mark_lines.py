"""Lines of ``<mark>`` text: what they say, and what is wrong with them."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.codecs.mark import encode
from engine.corpora.formats.mark_lines import read_marked
from engine.corpora.formats.texts import REASONS, AnnotatedText, Fault
from engine.corpora.types import UNTYPED
from schemas.spans import TypedSpan


def read(text: str, tokenised: bool = False) -> list[AnnotatedText | Fault]:
    return list(read_marked(io.BytesIO(text.encode()), "file", tokenised))


def one(line: str, tokenised: bool = False) -> AnnotatedText:
    (found,) = read(line, tokenised)
    assert isinstance(found, AnnotatedText)
    assert all(f.reason in REASONS for f in found.faults)
    return found


def test_a_line_is_a_sentence() -> None:
    first, second = read("<mark>Gout</mark> in <mark>T - cell</mark>s . \n\nNone here.\n")
    assert first == AnnotatedText(
        "file:1",
        "line 1",
        "Gout in T - cells .",
        [TypedSpan(0, 4, UNTYPED), TypedSpan(8, 16, UNTYPED)],
        "sentence",
    )
    assert isinstance(second, AnnotatedText)
    assert (second.document, second.text, second.mentions) == ("file:3", "None here.", [])


@pytest.mark.parametrize(
    ("line", "reason", "unplaced"),
    [
        ("a <mark>b", "unbalanced marks", 1),
        ("a</mark> b", "unbalanced marks", 0),
        ("<mark>a <mark>b</mark>", "unbalanced marks", 1),
        ("p-<mark>AKT</ma<mark>AKT,</mark>", "broken mark", 1),
        ("<mark>Neuregu<mark>Neuregulin-1</mark>mark>", "broken mark", 1),
        ("a <mark></mark> b", "empty mark", 1),
    ],
)
def test_fatal(line: str, reason: str, unplaced: int) -> None:
    found = one(line)
    assert [(f.place, f.reason, f.found, f.fatal) for f in found.faults] == [
        ("line 1", reason, line, True)
    ] or reason == "broken mark"
    assert found.faults[0].fatal
    assert found.unplaced == unplaced


@pytest.mark.parametrize("text", ["p < 0.05 and > 2", "a hash mark) is marked", "1 </ 2"])
def test_not_every_angle_is_a_marker(text: str) -> None:
    assert one(text).faults == []


def test_nested_marks_are_read_and_in_doubt() -> None:
    found = one("<mark><mark>WRM - 1</mark> protein</mark> and WRM - 1 .")
    assert found.mentions == [TypedSpan(0, 7, UNTYPED), TypedSpan(0, 15, UNTYPED)]
    assert [(f.reason, f.fatal) for f in found.faults] == [("nested marks", False)]


def test_a_mark_twice_around_the_same_counts_once() -> None:
    found = one("<mark><mark>a</mark></mark>")
    assert (found.mentions, found.unplaced) == ([TypedSpan(0, 1, UNTYPED)], 1)
    assert not found.faults[0].fatal


def test_in_tokenised_text_a_mark_does_not_cut_a_word() -> None:
    line = "Anti<mark>tumor</mark> activity"
    assert one(line).faults == []
    assert [(f.reason, f.fatal) for f in one(line, tokenised=True).faults] == [
        ("mark within a word", False)
    ]
    assert one("<mark>T</mark>-cell", tokenised=True).faults == []


def test_bad_bytes() -> None:
    found = list(read_marked(io.BytesIO(b"<mark>na\xefve</mark>\nfine"), "f", False))
    assert isinstance(found[0], Fault)
    assert (found[0].place, found[0].reason) == ("line 1", "not UTF-8")
    assert isinstance(found[1], AnnotatedText)


@given(
    st.text(
        st.characters(exclude_characters="<>", exclude_categories=["Cs", "Cc", "Z"]), min_size=9
    ),
    st.sets(st.integers(0, 9)),
)
def test_what_the_codec_writes_is_read_back(text: str, cuts: set[int]) -> None:
    ends = sorted(cuts)
    mentions = [TypedSpan(a, b, UNTYPED) for a, b in zip(ends[::2], ends[1::2], strict=False)]
    found = one(encode(text, mentions))
    assert (found.text, found.mentions, found.faults) == (text, mentions, [])
