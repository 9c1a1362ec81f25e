"""Spans: half-open ranges of code points."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.spans import Span, trim

SPANS = st.tuples(st.integers(0, 6), st.integers(1, 4)).map(lambda s: Span(s[0], sum(s)))


@given(SPANS, SPANS)
def test_spans_overlap_when_they_share_a_code_point(a: Span, b: Span) -> None:
    shared = set(range(*a)) & set(range(*b))
    assert a.overlaps(b) == b.overlaps(a) == bool(shared)


def test_touching_spans_do_not_overlap() -> None:
    assert not Span(0, 2).overlaps(Span(2, 4))


def test_spans_are_ordered_by_start_then_end() -> None:
    assert sorted([Span(1, 3), Span(0, 9), Span(1, 2)]) == [Span(0, 9), Span(1, 2), Span(1, 3)]


def test_a_shifted_span_holds_the_same_text() -> None:
    text, prefix = "acute gout", "😀 "
    span = Span(6, 10).shift(len(prefix))
    assert (prefix + text)[span.start : span.end] == "gout"


@given(st.text("ab \n\u00a0\x1f", max_size=8), st.data())
def test_trim_takes_white_space_off_the_ends_alone(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    trimmed = trim(text, Span(start, end))
    assert text[trimmed.start : trimmed.end] == text[start:end].strip()
    assert start <= trimmed.start <= trimmed.end <= end


@pytest.mark.parametrize("span", [Span(1, 3), Span(1, 1)])
def test_white_space_alone_trims_to_an_empty_span_at_its_start(span: Span) -> None:
    assert trim("a  b", span) == Span(1, 1)
