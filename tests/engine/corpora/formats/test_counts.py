"""Offsets that do not count code points: each count is told by what the mentions' texts are."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.corpora.formats.counts import (
    STANDARD,
    Claim,
    Count,
    Ruler,
    Unit,
    counts_to_try,
    displaced,
    tell_count,
)
from schemas.spans import Span

TEXT = "Gicht 😀 und Größe\nÄrzte geben 𝛼-Blocker.\nDie Gicht schwindet."
WORDS = ["Gicht", "Größe", "Ärzte", "Blocker", "schwindet"]
UNITS: list[Unit] = ["code points", "UTF-16 units", "UTF-8 bytes"]


def claims(spans: Sequence[tuple[int, int]], words: Sequence[str | None]) -> list[Claim]:
    return [Claim([Span(*s)], w, "d") for s, w in zip(spans, words, strict=True)]


def as_counted(text: str, words: Sequence[str], count: Count) -> list[Claim]:
    """The claims of a file that counts so, of the first occurrence of each word."""
    starts = Ruler(text, count).starts
    at = [text.index(word) for word in words]
    spans = [(starts[a], starts[a + len(w)]) for a, w in zip(at, words, strict=True)]
    return claims(spans, words)


def surfaces(text: str, pieces: list[list[Span]]) -> list[str]:
    return ["".join(text[p.start : p.end] for p in own) for own in pieces]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("line_end", [None, 1, 2, 0])
@pytest.mark.parametrize("ahead", [0, 1])
@pytest.mark.parametrize("text", [TEXT, TEXT.replace("\n", "\r\n"), TEXT.replace("\n", "\r")])
def test_any_count_is_told(unit: Unit, line_end: int | None, ahead: int, text: str) -> None:
    stated = as_counted(text, WORDS, Count(unit, line_end, ahead))
    if not displaced(text, stated):
        assert all(text[c.pieces[0].start : c.pieces[0].end] == c.surface for c in stated)
        return
    reading = tell_count(text, stated, {})
    assert reading is not None
    assert surfaces(text, reading.pieces) == WORDS


def test_a_byte_order_mark_is_three_bytes() -> None:
    text = "Größe und Gicht"
    stated = as_counted(text, ["Größe", "Gicht"], Count("UTF-8 bytes", ahead=3))
    reading = tell_count(text, stated, {}, has_bom=True)
    assert reading is not None and surfaces(text, reading.pieces) == ["Größe", "Gicht"]
    assert str(reading.count) == "UTF-8 bytes, with 3 ahead of the text"


def test_one_mention_that_agrees_in_no_count_and_it_is_none() -> None:
    stated = as_counted(TEXT, WORDS, Count("UTF-8 bytes"))
    stated[3] = stated[3]._replace(surface="Pfleger")
    assert tell_count(TEXT, stated, {}) is None
    assert displaced(TEXT, stated) == 4  # the first word is before all that counts otherwise


def test_text_in_another_form_is_where_it_should_be() -> None:
    text = "Caf\N{LATIN SMALL LETTER E WITH ACUTE} TNF-α &amp; CO2 in  T-cells"
    words = ["cafe", "TNF-alpha", "& CO2", "T - cells"]
    spans = [(0, 4), (5, 10), (11, 20), (25, 32)]
    assert displaced(text, claims(spans, words)) == 0
    assert displaced(text, claims([(0, 3)], ["cafe"])) == 1
    # A mention without letters must stand there as it is.
    assert displaced("a + b", claims([(2, 3), (1, 2)], ["+", "+"])) == 1
    # One whose text the file does not give, or that has no place, says nothing.
    assert displaced("a + b", [*claims([(0, 99)], [None]), Claim([], "+", "d")]) == 0


def test_a_code_point_is_not_cut() -> None:
    ruler = Ruler("a😀b", Count("UTF-16 units"))
    assert ruler.place(Span(1, 3)) == Span(1, 2)
    assert ruler.place(Span(3, 4)) == Span(2, 3)
    for outside in ((1, 2), (2, 3), (3, 5), (-1, 1), (2, 2), (3, 1)):
        assert ruler.place(Span(*outside)) is None


def test_a_line_end_of_two_is_not_within_a_mention() -> None:
    ruler = Ruler("ab\r\ncd", Count(line_end=1))
    assert (ruler.place(Span(0, 2)), ruler.place(Span(3, 5))) == (Span(0, 2), Span(4, 6))


def test_offsets_from_the_line() -> None:
    text = TEXT.replace("😀", ":)")
    lines = [Span(0, 18), Span(19, 41), Span(42, 62)]
    stated = claims([(0, 5), (13, 18), (0, 5), (14, 21), (4, 9)], [*WORDS[:4], "Gicht"])
    reading = tell_count(text, stated, {"line": lines})
    assert reading is not None
    assert reading.pieces[4] == [Span(46, 51)]
    assert surfaces(text, reading.pieces) == [*WORDS[:4], "Gicht"]
    assert str(reading.count) == "code points, from the start of the line"


def test_where_it_cannot_be_told_which_part_a_mention_is_in_there_is_no_count() -> None:
    text, lines = "Gout.\nGout now.", {"line": [Span(0, 5), Span(6, 15)]}
    assert tell_count(text, claims([(0, 4), (5, 8)], ["Gout", "now"]), lines) is None
    # Twice the same is once in each; and what follows another line's mention is not before it.
    twice = tell_count(text, claims([(0, 4), (0, 4), (5, 8)], ["Gout", "Gout", "now"]), lines)
    assert twice is not None
    assert twice.pieces == [[Span(0, 4)], [Span(6, 10)], [Span(11, 14)]]
    assert tell_count(text, claims([(5, 8), (0, 4)], ["now", "Gout"]), lines) is None
    # In any order, where each has one place only.
    text, lines = "Gout?\nNo flu.", {"line": [Span(0, 5), Span(6, 13)]}
    mixed = tell_count(text, claims([(3, 6), (0, 4), (0, 2)], ["flu", "Gout", "No"]), lines)
    assert mixed is not None
    assert mixed.pieces == [[Span(9, 12)], [Span(0, 4)], [Span(6, 8)]]


def test_counts_that_make_no_difference_are_not_tried() -> None:
    plain = list(counts_to_try("Gout.", ["text"]))
    assert plain == [Count(ahead=1)]
    units = {c.unit for c in counts_to_try("Göut.", ["text"])}
    assert units == {"code points", "UTF-8 bytes"}
    assert STANDARD not in counts_to_try(TEXT, ["text", "line"])
    # Of those that differ in as much, another unit is the likeliest.
    assert next(counts_to_try(TEXT, ["text"])).unit != "code points"


@given(
    st.text(st.sampled_from("aé😀\r\n "), min_size=1, max_size=20),
    st.sampled_from(UNITS),
    st.sampled_from([None, 0, 1, 2]),
    st.data(),
)
def test_what_is_measured_is_placed_again(
    text: str, unit: Unit, line_end: int | None, data: st.DataObject
) -> None:
    ruler = Ruler(text, Count(unit, line_end))
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    placed = ruler.place(Span(ruler.starts[start], ruler.starts[end]))
    # Code points of no width belong to no offset of their own.
    if placed is None:
        assert not text[start:end].strip("\r\n")
    else:
        assert text[placed.start : placed.end].strip("\r\n") == text[start:end].strip("\r\n")
