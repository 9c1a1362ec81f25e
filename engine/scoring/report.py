"""Scores as rows of a table and as JSON."""

from typing import Any

from engine.scoring.scores import METRICS, Interval, ScoreRow

COLUMNS = ("corpus", "type", "texts", "gold", "predicted", "P", "R", "F1", "95%", "±1 F1",
            "overlap F1")  # fmt: skip


def cells(row: ScoreRow) -> list[str]:
    """A row of scores as COLUMNS, in percent."""
    exact = row.scores["exact"]
    counts = exact.counts
    bounds = exact.f1_interval
    return [
        row.corpus or "all",
        row.entity_type or "all",
        str(row.texts),
        str(counts.gold),
        str(counts.predicted),
        *(f"{100 * share:.2f}" for share in (counts.precision, counts.recall, counts.f1)),
        f"{100 * bounds.low:.2f}–{100 * bounds.high:.2f}" if bounds else "",
        *(f"{100 * row.scores[m].counts.f1:.2f}" for m in METRICS[1:]),
    ]


def jsonable(row: ScoreRow) -> dict[str, Any]:
    """A row of scores as JSON takes it; shares from 0 to 1."""
    found: dict[str, Any] = {
        "corpus": row.corpus,
        "entity_type": row.entity_type,
        "texts": row.texts,
        "documents": row.documents,
    }
    for metric, score in row.scores.items():
        counts = score.counts
        found[metric] = counts._asdict() | {
            "precision": counts.precision,
            "recall": counts.recall,
            "f1": counts.f1,
            "precision_interval": _bounds(score.precision_interval),
            "recall_interval": _bounds(score.recall_interval),
            "f1_interval": _bounds(score.f1_interval),
        }
    return found


def _bounds(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]
