"""What each run has changed, from its row in ``runs`` and its commits in the table's log.

Enters: the store. Leaves: runs, the latest first. Of a run that crashed only the commits are known;
of one whose commits are no longer in the log, only the row.
"""

import heapq
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from engine.tables.commits import read_log
from engine.tables.store import Store

_CHANGES = ("new", "replaced", "revised", "deleted")
_NAMES = ("run_id", "job", "outcome", "annotator", "started_at", "seconds")
_COUNTS = ("read", "annotated", "settled", "revised", "empty", "partial", "failed", "deleted",
           "mentions")  # fmt: skip
_CLOCKS_DIFFER = timedelta(hours=1)
"""How far the clocks of the machine that records the start of a run and of the one that commits
may be apart."""


@dataclass(slots=True)
class PastRun:
    """One run. ``versions`` are those of ``annotations`` that it committed, ascending; ``changes``
    counts the rows that these changed: ``new``, ``replaced``, ``revised`` (metadata only),
    ``deleted``. ``counts`` are the run's own, from ``runs``; None if it has no row there, as it
    crashed, still runs, or was maintenance."""

    run_id: str
    job: str | None = None
    outcome: str | None = None
    annotator: str | None = None
    started_at: datetime | None = None
    seconds: float | None = None
    versions: list[int] = field(default_factory=list)
    changes: Counter[str] = field(default_factory=Counter)
    counts: dict[str, int] | None = None

    def summary(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "run_id": self.run_id,
            "job": self.job,
            "outcome": self.outcome,
            "annotator": self.annotator,
            "started_at": self.started_at.isoformat() if self.started_at else None,
            "seconds": self.seconds,
            "versions": self.versions,
            "changes": {name: self.changes[name] for name in _CHANGES},
            "counts": self.counts,
        }


def past_runs(store: Store, limit: int | None = None) -> list[PastRun]:
    """The latest ``limit`` runs, or all, the latest first.

    The log is read from its end, and only as far as those runs reach back.

    Raises:
        JobError: if the log cannot be read.
    """
    runs = {row["run_id"]: _of_row(row) for row in store.read("runs", [*_NAMES, *_COUNTS])}
    starts = heapq.nlargest(limit or 0, (r.started_at for r in runs.values() if r.started_at))
    reach = starts[-1] if limit and len(starts) == limit else None
    for commit in read_log(store.load()):
        if reach and commit.time and commit.time + _CLOCKS_DIFFER < reach:
            break
        if run_id := commit.notes.get("pubmark.run_id"):
            run = runs.setdefault(run_id, PastRun(run_id))
            if run.counts is None and commit.time:  # its earliest commit stands in for its start
                run.started_at = min(commit.time, run.started_at or commit.time)
            run.versions.insert(0, commit.version)
            run.changes.update({n: int(commit.notes.get(f"pubmark.{n}", 0)) for n in _CHANGES})
    return sorted(runs.values(), key=_start, reverse=True)[:limit]


def _of_row(row: dict[str, Any]) -> PastRun:
    run = PastRun(*(row[n] for n in _NAMES))
    run.counts = {n: row[n] or 0 for n in _COUNTS}
    return run


def _start(run: PastRun) -> tuple[datetime, str]:
    """What runs are ordered by."""
    return run.started_at or datetime.min.replace(tzinfo=UTC), run.run_id
