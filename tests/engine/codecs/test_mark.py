"""The mark codec: mentions to target text and back."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.codecs import CODECS
from engine.codecs.mark import decode, encode
from schemas.spans import Span

MARKER = re.compile(r"</?mark>")
# Pieces of markers come often, so that a marker next to one could be misread.
TEXTS = st.lists(st.sampled_from(["<", "</", "mark", "<mark", "mark>", ">", " "]) | st.text()).map(
    "".join
)


@st.composite
def marked_texts(draw: st.DrawFn) -> tuple[str, list[Span]]:
    """Any text without markers, and any spans of it that do not overlap; some touch."""
    text = draw(TEXTS.filter(lambda t: not MARKER.search(t)))
    ends = sorted(draw(st.lists(st.integers(0, len(text)), max_size=10)))
    pairs = zip(ends[::2], ends[1::2], strict=False)
    return text, [Span(start, end) for start, end in pairs if start < end]


@given(marked_texts())
def test_decode_gives_back_what_was_encoded(case: tuple[str, list[Span]]) -> None:
    text, spans = case
    completion = encode(text, spans)
    marked = decode(completion)
    assert marked.text == text
    assert [m.span for m in marked.marks] == spans
    assert marked.faults == []
    for mark in marked.marks:
        assert completion[slice(*mark.opened)] == "<mark>"
        assert completion[slice(*mark.closed)] == "</mark>"


def test_spans_may_come_in_any_order() -> None:
    assert encode("a b", [Span(2, 3), Span(0, 1)]) == "<mark>a</mark> <mark>b</mark>"


@pytest.mark.parametrize(
    "spans",
    [[(0, 3), (2, 4)], [(0, 4), (1, 2)], [(0, 2), (0, 2)], [(1, 1)], [(-1, 2)], [(3, 6)], [(2, 1)]],
    ids=["crossing", "nested", "twice", "empty", "before", "beyond", "backwards"],
)
def test_what_the_codec_cannot_say_is_refused(spans: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="span"):
        encode("abcde", [Span(*s) for s in spans])


@pytest.mark.parametrize("text", ["see <mark> here", "a</mark>"])
def test_a_text_with_a_marker_of_its_own_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"</?mark>"):
        encode(text, [])


@pytest.mark.parametrize(
    ("completion", "surfaces", "faults"),
    [
        ("a b", [], []),
        ("a <mark>b</mark><mark>c</mark>", ["b", "c"], []),
        ("<mark>a <mark>b</mark> c</mark> d", ["a b c"], ["nested"]),
        ("<mark>a<mark>b<mark>c</mark></mark></mark>", ["abc"], ["nested", "nested"]),
        ("<mark>a<mark>b</mark><mark>c</mark></mark>", ["abc"], ["nested", "nested"]),
        # Untyped markers cannot cross: these read as nested.
        ("<mark>a<mark>b</mark>c</mark><mark>d</mark>", ["abc", "d"], ["nested"]),
        ("a</mark> <mark>b</mark>", ["b"], ["unopened"]),
        ("<mark>a</mark> b</mark>", ["a"], ["unopened"]),
        ("<mark>a</mark> <mark>b", ["a"], ["unclosed"]),
        # A mark that never closes takes nothing of what follows it.
        ("<mark>a <mark>b</mark> <mark>c</mark>", ["b", "c"], ["unclosed"]),
        ("a<mark></mark>b", [], ["empty"]),
        ("<mark>a<mark></mark></mark>", ["a"], ["nested"]),
        ("<mark><mark></mark></mark>", [], ["nested", "empty"]),
        ("<mark > <Mark> </ mark> &lt;mark&gt;", [], []),
        # What is left when a marker is taken out is not read again.
        ("<ma<mark>rk>", [], ["unclosed"]),
        ("", [], []),
    ],
)
def test_decode(completion: str, surfaces: list[str], faults: list[str]) -> None:
    marked = decode(completion)
    assert [marked.text[slice(*m.span)] for m in marked.marks] == surfaces
    assert sorted(marked.faults) == sorted(faults)
    assert marked.text == MARKER.sub("", completion)


@given(st.lists(st.sampled_from(["<mark>", "</mark>", "a", " "])).map("".join))
def test_every_marker_is_of_one_mark_or_one_fault(completion: str) -> None:
    marked = decode(completion)
    pairs = len(marked.marks) + marked.faults.count("nested") + marked.faults.count("empty")
    assert completion.count("<mark>") == pairs + marked.faults.count("unclosed")
    assert completion.count("</mark>") == pairs + marked.faults.count("unopened")
    ends = [end for mark in marked.marks for end in mark.span]
    assert ends == sorted(ends)


@pytest.mark.parametrize(
    "completion",
    [
        "<mark>a</mark>" * 50_000,
        "<mark>" * 100_000,
        "</mark>" * 100_000,
        "<mark>" * 50_000 + "a" + "</mark>" * 50_000,
        "<mark" * 100_000,
    ],
    ids=["pairs", "openers", "closers", "nested", "almost"],
)
def test_time_is_linear_in_the_markers(completion: str) -> None:
    began = time.perf_counter()
    decode(completion)
    assert time.perf_counter() - began < 10  # 0.1 s; a quadratic way takes minutes


def test_the_codec_is_known_by_its_name() -> None:
    assert CODECS["mark"].decode(CODECS["mark"].encode("ab", [Span(0, 1)])).text == "ab"
