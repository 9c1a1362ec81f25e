"""What a gate asks, and what it makes of a comparison."""

from pathlib import Path

import pytest

from engine.checkpoints.load import Checkpoint
from engine.refresh.gate import Gate, judge, question
from engine.scoring.comparison import Comparison, GoldScore, Side, compare
from engine.steps.annotator import Annotator, make_annotator
from engine.tables.decisions import decide
from engine.tables.store import Store
from schemas.configs.refresh import GateLimits, GatePart
from schemas.spans import TypedSpan

LIMITS = GateLimits(
    min_f1=0.5, max_f1_drop=0.01, max_lost=0.2, max_added=0.5, max_moved=0.2, max_failed=0.0,
    min_mentions=2,
)  # fmt: skip


def span(start: int, end: int, kind: str = "gene") -> TypedSpan:
    return TypedSpan(start, end, kind)


def side(f1: float, failed: int = 0) -> Side:
    scores = (GoldScore(None, 10, f1, f1, f1), GoldScore("gene", 10, f1, f1, f1))
    return Side("n", "a", 10, failed, scores)


@pytest.fixture
def candidate(nano: Checkpoint) -> Annotator:
    return make_annotator(nano, nano.manifest.task)


def test_the_digest_of_a_question_is_the_same_in_every_version() -> None:
    # It is stored in rollouts: with another one, a refused checkpoint would be tried again.
    assert question("new", "old", {"sample": 500, "corpora": ["a"]}) == "7e897add93fbbe59"
    assert question("new", None, {}) == "6961b5fe412c28c3"


def test_nothing_is_asked_where_there_is_nothing_to_decide(
    store: Store, candidate: Annotator
) -> None:
    for part, current in (
        (None, "old"),  # no gate
        (GatePart(), candidate.fingerprint),  # it is the table's annotator already
        (GatePart(), None),  # neither rows nor gold to try it on
    ):
        gate = Gate(part, store, candidate, current)
        assert (gate.is_open, gate.decision, gate.refusal) == (False, None, None)


def test_a_question_is_answered_once_until_something_in_it_changes(
    store: Store, candidate: Annotator, tmp_path: Path
) -> None:
    def gate(current: str = "old", **options: object) -> Gate:
        return Gate(GatePart.model_validate(options), store, candidate, current)

    first = gate()
    assert first.is_open and first.refusal is None
    assert first._question is not None
    new = candidate.fingerprint
    decide(store, new, "old", first._question, ["worse", "slower"], {}, "r1")
    again = gate()
    assert not again.is_open and again.comparison is None
    assert again.refusal == f"checkpoint {candidate.checkpoint.ref} is refused: worse; slower"
    assert not gate(old_checkpoint="moved").is_open  # where it is does not matter
    assert gate(sample=7).is_open and gate(limits={"max_lost": 0.5}).is_open
    assert gate(current="older").is_open
    gold = tmp_path / "gold.parquet"
    gold.write_bytes(b"1")
    asked = {"corpora": [str(gold)]}
    with_gold = gate(**asked)
    assert with_gold.is_open and with_gold._question is not None
    decide(store, new, "old", with_gold._question, [], {}, "r2")
    assert not gate(**asked).is_open and gate(**asked).refusal is None
    gold.write_bytes(b"2")
    assert gate(**asked).is_open


def test_noise_is_taken_off() -> None:
    before = {i: [span(0, 3)] for i in range(10)}
    after = {i: [span(0, 3)] for i in range(5)}
    again = {i: [span(0, 3)] for i in range(7)}
    _, gene = compare(before, after, again, ["gene"])
    assert gene.beyond_noise("lost") == 0.2  # 5 less 3, of 10
    found = Comparison(side(0.8), side(0.8), 10, (gene,))
    assert judge(found, LIMITS) == []
    _, gene = compare(before, {}, again, ["gene"])
    (reason,) = judge(Comparison(side(0.8), side(0.8), 10, (gene,)), LIMITS)
    assert reason == (
        "gene: 10 of 10 mentions lost (3 by noise), 70.0% beyond noise, at most 20.0% is allowed"
    )


def test_a_type_that_is_rare_is_not_judged_by_shares() -> None:
    _, gene = compare({1: [span(0, 3)]}, {}, {1: [span(0, 3)]}, ["gene"])
    assert judge(Comparison(None, side(0.8), 1, (gene,)), LIMITS) == []


def test_scores_and_failures_are_judged() -> None:
    assert judge(Comparison(side(0.80), side(0.795), 0), LIMITS) == []
    reasons = judge(Comparison(side(0.8), side(0.4, failed=1), 0), LIMITS)
    assert reasons == [
        "F1 on gold 0.4000, at least 0.5000 is asked for",
        "all types: F1 on gold falls from 0.8000 to 0.4000, by more than 0.01",
        "gene: F1 on gold falls from 0.8000 to 0.4000, by more than 0.01",
        "1 of 10 texts failed, at most 0.0% may",
    ]


NAN = float("nan")


def test_what_is_not_a_number_is_no_evidence() -> None:
    reasons = judge(Comparison(side(0.8), side(NAN), 0), LIMITS)
    assert reasons == [
        "F1 on gold nan, at least 0.5000 is asked for",
        "all types: F1 on gold falls from 0.8000 to nan, by more than 0.01",
        "gene: F1 on gold falls from 0.8000 to nan, by more than 0.01",
    ]
    assert judge(Comparison(side(NAN), side(0.8), 0), LIMITS) != []


def test_gold_without_mentions_shows_nothing() -> None:
    none = Side("n", "a", 10, 0, (GoldScore(None, 0, 0.0, 0.0, 0.0),))
    reasons = judge(Comparison(none, none, 0), LIMITS)
    assert reasons == ["gold has no mention, F1 of at least 0.5000 is asked for"]
    assert judge(Comparison(none, none, 0), LIMITS.model_copy(update={"min_f1": 0.0})) == []


def test_a_type_is_held_to_its_former_score_in_whatever_case_its_name_is() -> None:
    old = Side("o", "b", 10, 0, (GoldScore(None, 10, 0.8, 0.8, 0.8),
                                 GoldScore("Gene", 10, 0.9, 0.9, 0.9)))  # fmt: skip
    reasons = judge(Comparison(old, side(0.8), 0), LIMITS)
    assert reasons == ["gene: F1 on gold falls from 0.9000 to 0.8000, by more than 0.01"]
