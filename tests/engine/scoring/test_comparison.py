"""What came, went and moved between two sets of mentions."""

from engine.scoring.comparison import Comparison, GoldScore, Side, compare, to_markdown
from schemas.spans import TypedSpan


def span(start: int, end: int, kind: str = "gene") -> TypedSpan:
    return TypedSpan(start, end, kind)


def side(f1: float, failed: int = 0) -> Side:
    scores = (GoldScore(None, 10, f1, f1, f1), GoldScore("gene", 10, f1, f1, f1))
    return Side("n", "a", 10, failed, scores)


def test_noise_is_what_two_runs_of_the_old_one_differ_by() -> None:
    before = {i: [span(0, 3)] for i in range(10)}
    after = {i: [span(0, 3)] for i in range(5)}
    again = {i: [span(0, 3)] for i in range(7)}
    _, gene = compare(before, after, again, ["gene"])
    assert gene.beyond_noise("lost") == 0.2  # 5 less 3, of 10


def test_each_mention_is_the_same_moved_added_or_lost() -> None:
    before = {1: [span(0, 3), span(5, 8), span(10, 12), span(0, 3, "disease")], 2: [span(0, 1)]}
    after = {1: [span(0, 3), span(5, 9), span(20, 22), span(0, 2, "disease")], 3: [span(0, 1)]}
    total, gene, disease = compare(before, after, None, ["gene", "disease"])
    assert gene.change._asdict() == {"same": 1, "moved": 1, "added": 1, "lost": 2}
    assert disease.change._asdict() == {"same": 0, "moved": 1, "added": 0, "lost": 0}
    assert (total.entity_type, total.before, total.after) == (None, 5, 4)
    assert total.noise is None


def test_markdown_has_both_tables() -> None:
    changes = tuple(compare({1: [span(0, 3)]}, {1: [span(0, 4)]}, {1: []}, ["gene"]))
    text = to_markdown(Comparison(side(0.5), side(0.75), 1, changes))
    assert "| all | 50.00 | 75.00 |" in text
    assert "| gene | 1 | 1 | 0 | 1 (0) | 0 (0) | 0 (1) |" in text
    assert Comparison(None, side(0.5), 1, changes).summary()["changes"][0]["moved"] == 1
