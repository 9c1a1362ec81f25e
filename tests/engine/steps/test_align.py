"""Placing what the model marked onto the source."""

import os
from dataclasses import dataclass
from random import Random

import pytest
from damage import judge, make_case
from damages import KINDS, cut_up
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.codecs.mark import decode
from engine.steps.align import Alignment, Unplaced, align_mentions
from schemas.spans import Span

CASES = int(os.environ.get("PUBMARK_DAMAGE_CASES", "50"))
"""Random cases of each kind of damage; 1,500 make more than 20,000 in all."""
PLACES_ALL = {"none", "spacing", "case", "Unicode variants", "nested marks", "crossing marks",
              "empty marks", "adjacent marks", "marks inside words"}  # fmt: skip


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
    ("completion", "expected"),
    [
        ("Severe <mark>Asthma</mark> and COPD, as asthma is.", ("asthma", 7)),
        ("Severe <mark>asthma</mark> or COPD, as asthma is.", ("asthma", 7)),
        ("Severe <mark>asthma</mark> and COPD, as", ("asthma", 7)),
        ("<mark>asthma</mark> and COPD, as asthma is.", ("asthma", 7)),
        ("Severe asthma, as <mark>asthma</mark> is.", ("asthma", 27)),
        ("Severe severe <mark>asthma</mark> and COPD, as asthma is.", ("asthma", 7)),
        ("Severe asthma and <mark>COPD</mark> and <mark>COPD</mark>, as asthma is", ("COPD", 18)),
        ("Severe asthma and COPD, as <mark>asthma is, as asthma is, as", None),
        ("<mark>Severe asthma" + " and COPD</mark> <mark>asthma" * 30 + "</mark>",
         ("Severe asthma and COPD", 0)),
    ],
    ids=["case", "altered", "early stop", "beginning lost", "words lost", "word repeated",
         "mention repeated", "never closed", "endless repetition"],
)  # fmt: skip
def test_a_mention_is_placed_whatever_became_of_the_words_around_it(
    completion: str, expected: tuple[str, int] | None
) -> None:
    source = "Severe asthma and COPD, as asthma is."
    alignment = align_mentions(source, decode(completion))
    assert placed(source, alignment) == ([(*expected, "repaired")] if expected else [])


@pytest.mark.parametrize(
    ("source", "completion", "reason"),
    [
        ("severe asthma", "very severe <mark>asthmatic</mark>", "altered"),
        ("ERα binds", "x <mark>ER</mark> binds", "altered"),
        ("ER binds", "x <mark>ER</mark>α binds", "altered"),
        ("cafe\u0301 visits", "x <mark>cafe</mark> visits", "altered"),
        ("a flu b flu c", "a <mark>flu</mark> c", "ambiguous"),
        ("flu and cold or fever", "cold or fever and <mark>flu</mark>", "moved"),
        ("the flu is here", "the <mark>flu</mark> " * 20, "repeated"),
        ("flu " * 4000, "".join(f"<mark>flu</mark> {k} " for k in range(4000)), "overlong"),
    ],
)
def test_what_has_no_place_has_a_reason(source: str, completion: str, reason: str) -> None:
    assert reason in {u.reason for u in align_mentions(source, decode(completion)).unplaced}


@pytest.mark.parametrize(
    ("source", "completion"),
    [
        ("TNF-α", "tnf‑Alpha"),
        ("Δ9-THC", "delta9–THC"),
        ("ἄλφα ς", "Ἄλφα Σ"),
        ("5′-UTR “x”", '5\'-utr "X"'),
        ("``x''", '"x"'),
        ("ﬁbroﬂavin", "Fibroflavin"),
        ("naïve café", "nai\u0308ve cafe\u0301"),
        ("CO₂ 10²", "CO2 102"),
        ("a\u00adb\u200b", "ab"),
        ("Straße İ", "STRASSE i̇"),
        ("½", "1/2"),
    ],
)
@pytest.mark.parametrize("rest", ["", " lost"], ids=["all else equal", "beside damage"])
def test_ways_of_writing_the_same_letters_agree(source: str, completion: str, rest: str) -> None:
    for ours, theirs in ((source, completion), (completion, source)):
        alignment = align_mentions(f"in {ours} of{rest}", decode(f"in <mark>{theirs}</mark> of"))
        (found,) = alignment.placed
        assert found.span == Span(3, 3 + len(ours.rstrip("\u200b")))


def test_a_mark_within_one_character_of_the_source_has_no_place() -> None:
    assert align_mentions("α1", decode("al<mark>pha1</mark>")).unplaced == [
        Unplaced("altered", "pha1")
    ]


@pytest.mark.parametrize(
    ("completion", "grade"),
    [
        ("An exact echo of a long <mark>mention</mark> in a long sentence , of sixteen", "exact"),
        ("An exact echo of a <mark>long mention</mark> in a lon sentence, of sixteen.", "repaired"),
        ("An exact echo of long <mark>mention</mark> in a long sentence, of sixteen.", "repaired"),
    ],
)
def test_exact_is_what_has_a_verbatim_neighbourhood(completion: str, grade: str) -> None:
    source = "An exact echo of a long mention in a long sentence, of sixteen."
    (found,) = align_mentions(source, decode(completion)).placed
    assert found.grade == grade


def test_what_is_unplaced_keeps_a_sample_of_what_was_marked() -> None:
    marked = decode("<mark>a</mark> <mark>" + "x" * 1000 + "</mark> c</mark>")
    assert align_mentions("a b c", marked).unplaced == [
        Unplaced("unopened"),
        Unplaced("altered", "x" * 200),
    ]


def test_a_mark_left_open_at_the_token_limit_is_truncated() -> None:
    marked = decode("<mark>Asthma</mark> and <mark>CO")
    alignment = align_mentions("Asthma and COPD.", marked, truncated=True)
    assert alignment.unplaced == [Unplaced("truncated")]
    assert len(alignment.placed) == 1


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "several, both"])
@settings(max_examples=CASES, suppress_health_check=list(HealthCheck))
@given(rng=st.randoms(use_true_random=False))
def test_no_damage_puts_an_untouched_mention_elsewhere(kind: str, rng: Random) -> None:
    case = make_case(rng)
    _, verdicts = judge(case.source, KINDS[kind](cut_up(*case), rng))
    outcomes = [v.outcome() for v in verdicts if v.meant]
    assert "wrong" not in outcomes
    if kind in PLACES_ALL:
        assert "unplaced" not in outcomes


@pytest.mark.parametrize("completion", ["a<mark> </mark>b", "a  <mark> </mark> b"])
def test_marked_white_space_is_blank(completion: str) -> None:
    assert align_mentions("a b", decode(completion)) == Alignment([], [Unplaced("blank", " ")])


SPACE = st.text(" \t\n\u00a0\u2003\x1f", max_size=2)
SOLID = st.characters(exclude_categories=["Cs", "Cf"]).filter(lambda c: not c.isspace())


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
    if marked.text == case.source:
        assert all(p.grade == "exact" for p in alignment.placed)


@given(
    st.text("ab ", max_size=6),
    st.lists(st.sampled_from(["<mark>", "</mark>", "a", "b", " "])).map("".join),
    st.booleans(),
)
def test_every_mark_is_placed_or_has_one_reason(
    source: str, completion: str, truncated: bool
) -> None:
    alignment = align_mentions(source, decode(completion), truncated)
    reasons = [u.reason for u in alignment.unplaced]
    assert completion.count("<mark>") == (
        len(alignment.placed) + len(reasons) - reasons.count("unopened")
    )
    ends = [end for p in alignment.placed for end in p.span]
    assert ends == sorted(ends)
    for found in alignment.placed:
        surface = source[found.span.start : found.span.end]
        assert surface
        assert surface == surface.strip()
