"""Placing what the model marked onto the source."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.align import Alignment, align_mentions
from engine.codecs.mark import decode
from schemas.spans import Span


def placed(source: str, alignment: Alignment) -> list[tuple[str, int, str]]:
    """Surface, start and grade of what was placed."""
    return [(source[p.span.start : p.span.end], p.span.start, p.grade) for p in alignment.placed]


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("Asthma and COPD.", []),
        ("<mark>Asthma</mark> and <mark>COPD</mark>.", [("Asthma", 0), ("COPD", 11)]),
        ("<mark>Asth</mark><mark>ma</mark> and COPD.", [("Asth", 0), ("ma", 4)]),
        ("As<mark>thm</mark>a and COPD.", [("thm", 2)]),
        ("Asthma<mark> and </mark>COPD.", [("and", 7)]),
        ("<mark>Asthma and COPD.</mark>", [("Asthma and COPD.", 0)]),
    ],
    ids=["none", "two", "adjacent", "inside a word", "white space at its ends", "all"],
)
def test_an_exact_echo(completion: str, expected: list[tuple[str, int]]) -> None:
    source = "Asthma and COPD."
    alignment = align_mentions(source, decode(completion))
    assert placed(source, alignment) == [(*e, "exact") for e in expected]
    assert alignment.unplaced == []


@pytest.mark.parametrize(
    ("source", "completion", "expected"),
    [
        ("A T-cell tumour.", "A <mark>T - cell tumour</mark> .", [("T-cell tumour", 2)]),
        ("A T - cell tumour .", "A <mark>T-cell tumour</mark>.", [("T - cell tumour", 2)]),
        ("lung\u00a0cancer", "<mark>lung cancer</mark>", [("lung\u00a0cancer", 0)]),
        ("lung cancer", "<mark>lung\n\n cancer </mark>\n", [("lung cancer", 0)]),
        ("in lung cancer", "in<mark> lungcancer</mark>", [("lung cancer", 3)]),
        (
            "a lung-cancer",
            "a <mark>lung</mark> - <mark>cancer</mark>",
            [("lung", 2), ("cancer", 7)],
        ),
        ("hypertension ", "hyper <mark>tension</mark>", [("tension", 5)]),
        ("😀 flu, 😀 flu", "😀 flu , 😀 <mark>flu</mark>", [("flu", 9)]),
    ],
)
def test_changed_spacing_is_mended(
    source: str, completion: str, expected: list[tuple[str, int]]
) -> None:
    alignment = align_mentions(source, decode(completion))
    assert placed(source, alignment) == [(*e, "repaired") for e in expected]
    assert alignment.unplaced == []


@pytest.mark.parametrize("spacing", ["", " "], ids=["exact", "repaired"])
def test_a_repeated_string_goes_to_its_own_occurrence(spacing: str) -> None:
    source = "flu after flu after flu."
    completion = f"flu after <mark>flu</mark>{spacing} after flu."
    (found,) = align_mentions(source, decode(completion)).placed
    assert found.span == Span(10, 13)


@pytest.mark.parametrize(
    "completion",
    [
        "Severe <mark>Asthma</mark> and COPD.",
        "Severe <mark>asthma</mark> or COPD.",
        "Severe <mark>asthma</mark> and.",
        "Severe severe <mark>asthma</mark> and COPD.",
        "Severe <mark>asthma</mark> and COPD",
        "Severe <mark>asthma</mark> and COPD\u200b.",
        "<mark>asthma</mark>",
    ],
)
def test_an_altered_completion_places_nothing(completion: str) -> None:
    assert align_mentions("Severe asthma and COPD.", decode(completion)) == Alignment(
        [], ["altered"]
    )


def test_unicode_is_not_normalised() -> None:
    assert align_mentions("café", decode("<mark>cafe\u0301</mark>")).unplaced == ["altered"]


def test_each_mark_of_an_altered_completion_has_a_reason() -> None:
    marked = decode("<mark>a</mark> <mark>x</mark> c</mark>")
    assert sorted(align_mentions("a b c", marked).unplaced) == ["altered", "altered", "unopened"]


def test_a_completion_cut_short_is_truncated() -> None:
    marked = decode("<mark>Asthma</mark> and")
    assert align_mentions("Asthma and COPD.", marked, truncated=True).unplaced == ["truncated"]


def test_a_completion_cut_short_after_all_of_the_source_counts() -> None:
    source = "Asthma and COPD."
    alignment = align_mentions(source, decode("<mark>Asthma</mark> and COPD. "), truncated=True)
    assert placed(source, alignment) == [("Asthma", 0, "repaired")]


@pytest.mark.parametrize("completion", ["a<mark> </mark>b", "a <mark>  </mark> b"])
def test_marked_white_space_is_blank(completion: str) -> None:
    assert align_mentions("a b", decode(completion)) == Alignment([], ["blank"])


SPACE = st.text(" \t\n\u00a0\u2003\x1f", max_size=2)
SOLID = st.characters(exclude_categories=["Cs"]).filter(lambda c: not c.isspace())


@dataclass
class Case:
    """The same solid characters, spaced in two ways; ``marks`` are [first, last] of them."""

    source: str
    places: list[int]
    completion: str
    marks: list[tuple[int, int]]


@st.composite
def respaced(draw: st.DrawFn) -> Case:
    solid = draw(st.lists(st.sampled_from(["a", "b"]) | SOLID, min_size=1, max_size=12))
    ends = sorted(draw(st.lists(st.integers(0, len(solid)), max_size=8)))
    pairs = zip(ends[::2], ends[1::2], strict=False)
    marks = [(start, end - 1) for start, end in pairs if start < end]
    source, completion, places = draw(SPACE), draw(SPACE), []
    for k, character in enumerate(solid):
        places.append(len(source))
        source += character + draw(SPACE)
        opener = "<mark>" * any(k == first for first, _ in marks)
        closer = "</mark>" * any(k == last for _, last in marks)
        # Markers stand anywhere within the white space around them.
        completion += opener + draw(SPACE) + character + draw(SPACE) + closer + draw(SPACE)
    return Case(source, places, completion, marks)


@given(respaced())
def test_every_span_holds_the_marked_characters_whatever_the_spacing(case: Case) -> None:
    marked = decode(case.completion)
    alignment = align_mentions(case.source, marked)
    assert [p.span for p in alignment.placed] == [
        Span(case.places[first], case.places[last] + 1) for first, last in case.marks
    ]
    assert alignment.unplaced == []
    grade = "exact" if marked.text == case.source else "repaired"
    assert all(p.grade == grade for p in alignment.placed)


@given(
    st.text("ab ", max_size=6),
    st.lists(st.sampled_from(["<mark>", "</mark>", "a", "b", " "])).map("".join),
    st.booleans(),
)
def test_every_mark_is_placed_or_has_one_reason(
    source: str, completion: str, truncated: bool
) -> None:
    alignment = align_mentions(source, decode(completion), truncated)
    reasons = alignment.unplaced
    assert completion.count("<mark>") == (
        len(alignment.placed) + len(reasons) - reasons.count("unopened")
    )
    ends = [end for p in alignment.placed for end in p.span]
    assert ends == sorted(ends)
    for found in alignment.placed:
        surface = source[found.span.start : found.span.end]
        assert surface
        assert surface == surface.strip()
