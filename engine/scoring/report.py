"""Scores as cells of a table, as Markdown and as JSON.

Enters: rows of scores. Leaves: text in percent, or plain values in [0, 1]. Left to others:
computing scores, and printing them.
"""

from collections.abc import Iterable
from typing import Any

from engine.scoring.scores import METRICS, Interval, ScoreRow

COLUMNS = ("corpus", "type", "texts", "gold", "predicted", "P", "R", "F1", "95%", "±1 F1",
           "overlap F1")  # fmt: skip
"""The columns of a table of scores; the first two are text, all others numbers."""


def cells(row: ScoreRow) -> list[str]:
    """One row of scores under COLUMNS, shares in percent."""
    exact = row.scores["exact"]
    counts = exact.counts
    interval = exact.f1_interval
    return [
        row.corpus or "all",
        row.entity_type or "all",
        str(row.texts),
        str(counts.gold),
        str(counts.predicted),
        *(f"{100 * share:.2f}" for share in (counts.precision, counts.recall, counts.f1)),
        f"{100 * interval.low:.2f}–{100 * interval.high:.2f}" if interval else "",
        *(f"{100 * row.scores[m].counts.f1:.2f}" for m in METRICS[1:]),
    ]


def to_markdown(rows: Iterable[ScoreRow]) -> str:
    """Rows of scores as a Markdown table under COLUMNS."""
    lines = [COLUMNS, ["---"] * 2 + ["---:"] * (len(COLUMNS) - 2), *map(cells, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def jsonable(row: ScoreRow) -> dict[str, Any]:
    """One row of scores as JSON; shares in [0, 1], intervals as ``[low, high]`` or null."""
    values: dict[str, Any] = {
        "corpus": row.corpus,
        "entity_type": row.entity_type,
        "texts": row.texts,
        "documents": row.documents,
    }
    for metric, score in row.scores.items():
        counts = score.counts
        values[metric] = counts._asdict() | {
            "precision": counts.precision,
            "recall": counts.recall,
            "f1": counts.f1,
            "precision_interval": _bounds(score.precision_interval),
            "recall_interval": _bounds(score.recall_interval),
            "f1_interval": _bounds(score.f1_interval),
        }
    return values


def _bounds(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]
