"""What a gate makes of a comparison."""

from engine.refresh.gate import judge
from engine.scoring.comparison import Comparison, GoldScore, Side, compare
from schemas.configs.refresh import GateLimits
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
