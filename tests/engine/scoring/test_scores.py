"""Counts and scores on spans: what each metric takes for right, and the traps of averaging."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.scoring.scores import METRICS, Counts, ScoreRow, Tally, count_text, match
from schemas.spans import Span, TypedSpan


def spans(*places: tuple[int, int], kind: str = "disease") -> list[TypedSpan]:
    return [TypedSpan(start, end, kind) for start, end in places]


def counts(
    gold: list[TypedSpan], predicted: list[TypedSpan], kinds: tuple[str, ...] = ("disease",)
) -> dict[str, tuple[int, ...]]:
    """By metric, counts summed over types."""
    by_type = count_text(gold, predicted, kinds)
    return {
        metric: tuple(sum(c[m][i] for c in by_type.values()) for i in range(3))
        for m, metric in enumerate(METRICS)
    }


def headline(tally: Tally) -> ScoreRow:
    return tally.rows(replicates=0)[0]


# What is right


def test_exact_wants_span_and_type() -> None:
    gold = spans((0, 5)) + spans((8, 12), kind="gene")
    predicted = spans((0, 5)) + spans((8, 12), kind="chemical")
    found = counts(gold, predicted, ("disease", "gene", "chemical"))
    assert found == dict.fromkeys(METRICS, (1, 1, 1))


@pytest.mark.parametrize(
    ("predicted", "near", "overlap"),
    [
        ((10, 20), True, True),
        ((9, 20), True, True),
        ((9, 21), True, True),
        ((11, 19), True, True),
        ((8, 20), False, True),
        ((10, 22), False, True),
        ((19, 30), False, True),
        ((20, 30), False, False),  # spans that touch share nothing
        ((0, 10), False, False),
    ],
)
def test_near_is_one_off_at_each_end_and_overlap_one_shared(
    predicted: tuple[int, int], near: bool, overlap: bool
) -> None:
    found = counts(spans((10, 20)), spans(predicted))
    assert found["near"][0] == near and found["overlap"][0] == overlap


def test_one_character_off_is_not_near_if_nothing_is_shared() -> None:
    assert counts(spans((3, 4)), spans((4, 5))) == dict.fromkeys(METRICS, (0, 1, 1))


def test_a_mention_stands_for_at_most_one_of_the_other_side() -> None:
    # One long prediction over three gold mentions finds one of them; and the reverse.
    gold, predicted = spans((0, 3), (4, 7), (8, 11)), spans((0, 11))
    assert counts(gold, predicted)["overlap"] == (1, 0, 2)
    assert counts(predicted, gold)["overlap"] == (1, 2, 0)


def test_as_many_pairs_as_there_can_be() -> None:
    # Whoever pairs the first with the first, or what is equal, is left with one pair.
    assert counts(spans((0, 10), (0, 3)), spans((0, 10), (6, 10)))["overlap"] == (2, 0, 0)


def test_each_nested_gold_mention_counts() -> None:
    gold = spans((0, 20), (5, 10), (5, 20))
    assert counts(gold, spans((0, 20)))["exact"] == (1, 0, 2)
    assert counts(gold, spans((5, 10)))["exact"] == (1, 0, 2)
    assert counts(gold, gold)["exact"] == (3, 0, 0)


def test_a_span_and_type_counts_once_in_a_text() -> None:
    twice = spans((0, 5), (0, 5))
    assert counts(twice, spans((0, 5)))["exact"] == (1, 0, 0)
    assert counts(spans((0, 5)), twice)["exact"] == (1, 0, 0)


def test_types_that_are_not_annotated_say_nothing() -> None:
    gold = spans((0, 5))
    predicted = spans((0, 5)) + spans((8, 12), (14, 15), kind="species")
    tally = Tally()
    tally.add("c", "1", gold, predicted, ["disease"])
    assert headline(tally).scores["exact"].counts == (1, 0, 0)
    assert tally.unscored == {"species": 2}
    # Of one corpus that annotates them they count, though another does not.
    tally.add("d", "1", [], predicted, ["disease", "species"])
    assert headline(tally).scores["exact"].counts == (1, 3, 0)


# Averaging


def test_shares_of_nothing_are_zero() -> None:
    assert (Counts().precision, Counts().recall, Counts().f1) == (0.0, 0.0, 0.0)
    assert Counts(0, 3, 0).f1 == Counts(0, 0, 3).f1 == 0.0
    tally = Tally()
    tally.add("c", "1", [], [], ["disease"])
    row = headline(tally)
    assert (row.texts, row.scores["exact"].counts, row.scores["exact"].counts.f1) == (
        1,
        (0, 0, 0),
        0,
    )


def test_texts_with_nothing_to_find_raise_no_score() -> None:
    """Averaging over sentences with empty-versus-empty as 1 would give 0.99 here."""
    tally = Tally()
    tally.add("c", "0", spans((0, 5)), spans((1, 5)), ["disease"])
    for i in range(1, 100):
        tally.add("c", str(i), [], [], ["disease"])
    assert headline(tally).scores["exact"].counts.f1 == 0.0
    tally.add("c", "100", spans((0, 5)), spans((0, 5)), ["disease"])
    assert headline(tally).scores["exact"].counts.f1 == 0.5


def test_a_long_text_weighs_as_much_as_its_mentions() -> None:
    """Averaging over sentences would give 0.5."""
    tally = Tally()
    tally.add("c", "0", spans(*((i, i + 1) for i in range(9))), [], ["disease"])
    tally.add("c", "1", spans((0, 5)), spans((0, 5)), ["disease"])
    assert headline(tally).scores["exact"].counts == (1, 0, 9)


def test_a_text_that_stands_twice_counts_twice() -> None:
    tally = Tally()
    for document in ("1", "2", "2"):  # as a document of its own, or within one
        tally.add("c", document, spans((0, 5)), spans((0, 5)), ["disease"])
    tally.add("c", "3", spans((0, 5)), [], ["disease"])
    row = headline(tally)
    assert (row.texts, row.documents) == (4, 3)
    assert row.scores["exact"].counts == (3, 0, 1)


def test_rows_are_all_then_corpora_and_within_them_types() -> None:
    tally = Tally()
    tally.add("b", "1", spans((0, 1)), [], ["disease"])
    tally.add("a", "1", spans((0, 1), kind="gene"), [], ["gene", "disease"])
    assert [(r.corpus, r.entity_type, r.texts) for r in tally.rows(replicates=0)] == [
        (None, None, 2), (None, "disease", 2), (None, "gene", 1),
        ("a", None, 1), ("a", "disease", 1), ("a", "gene", 1),
        ("b", "disease", 1),
    ]  # fmt: skip


# Intervals


def random_tally(seed: int, documents: int, texts: int = 1) -> Tally:
    rng = random.Random(seed)
    tally = Tally()
    for i in range(documents):
        share = rng.random()
        for _ in range(texts):
            gold = spans(*((j * 10, j * 10 + 5) for j in range(rng.randint(0, 6))))
            tally.add("c", str(i), gold, [m for m in gold if rng.random() < share], ["disease"])
    return tally


def test_intervals_hold_the_score_and_do_not_depend_on_order() -> None:
    one, other = Tally(), Tally()
    rng = random.Random(5)
    texts = [(str(i), spans((0, 5), (9, 12)), spans((0, rng.choice([5, 6])))) for i in range(50)]
    for tally, order in ((one, texts), (other, texts[::-1])):
        for document, gold, predicted in order:
            tally.add("c", document, gold, predicted, ["disease"])
    assert one.rows() == other.rows()
    for score in one.rows()[0].scores.values():
        assert score.f1_interval is not None
        assert score.f1_interval.low <= score.counts.f1 <= score.f1_interval.high
    assert one.rows(seed=1) != one.rows(seed=2)


def test_documents_are_resampled_not_their_sentences() -> None:
    """Sentences of a document succeed and fail together: taken singly they would seem more."""
    whole = random_tally(3, documents=30, texts=20).rows()[0].scores["exact"].recall_interval
    apart = Tally()
    rng = random.Random(3)
    for i in range(30):
        share = rng.random()
        for j in range(20):
            gold = spans(*((k * 10, k * 10 + 5) for k in range(rng.randint(0, 6))))
            found = [m for m in gold if rng.random() < share]
            apart.add("c", f"{i}/{j}", gold, found, ["disease"])
    single = apart.rows()[0].scores["exact"].recall_interval
    assert whole is not None and single is not None
    assert whole.high - whole.low > 2 * (single.high - single.low)


def test_intervals_are_about_as_wide_as_theory_says() -> None:
    tally = Tally()
    rng = np.random.default_rng(0)
    for i in range(2000):
        tally.add("c", str(i), spans((0, 5)), spans((0, 5)) if rng.random() < 0.7 else [],
                  ["disease"])  # fmt: skip
    interval = tally.rows()[0].scores["exact"].recall_interval
    assert interval is not None
    assert interval.high - interval.low == pytest.approx(
        2 * 1.96 * (0.7 * 0.3 / 2000) ** 0.5, rel=0.1
    )


def test_nothing_to_resample_gives_no_interval() -> None:
    assert Tally().rows() == [] or Tally().rows()[0].scores["exact"].f1_interval is None
    assert random_tally(1, 5).rows(replicates=0)[0].scores["exact"].f1_interval is None


# Matching

SPANS = st.sets(
    st.tuples(st.integers(0, 12), st.integers(1, 6)).map(lambda t: Span(t[0], t[0] + t[1])),
    max_size=5,
)


@given(SPANS, SPANS)
def test_matching_is_the_largest_there_is(gold: set[Span], predicted: set[Span]) -> None:
    few, many = sorted((sorted(gold), sorted(predicted)), key=len)
    best = max(
        sum(a.overlaps(b) for a, b in zip(few, chosen, strict=True))
        for chosen in itertools.permutations(many, len(few))
    )
    assert match(sorted(gold), sorted(predicted), Span.overlaps) == best
    assert match(sorted(predicted), sorted(gold), Span.overlaps) == best


@given(SPANS, SPANS)
def test_each_metric_allows_what_the_one_before_allows(
    gold: set[Span], predicted: set[Span]
) -> None:
    found = counts(spans(*gold), spans(*predicted))
    assert found["exact"][0] <= found["near"][0] <= found["overlap"][0]
    for tp, fp, fn in found.values():
        assert (tp + fp, tp + fn) == (len(predicted), len(gold))


def test_matching_follows_long_chains() -> None:
    chain = [Span(i * 3, i * 3 + 4) for i in range(3000)]
    assert match(chain, [s.shift(-2) for s in chain], Span.overlaps) == 3000
