"""What each run has changed: its row in ``runs``, and its commits in the table's log.

Enters: the store. Leaves: runs, the last first. A run that crashed has no row, but its commits; one
whose commits were cleaned out of the log has its row.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from engine.tables.store import Store

_CHANGES = ("new", "replaced", "revised", "deleted")


@dataclass(slots=True)
class PastRun:
    """One run. ``versions`` of ``annotations`` are those that it made, ascending; ``changes`` its
    rows there: ``new``, ``replaced``, ``revised`` (metadata only), ``deleted``. ``counts`` are its
    own, as in ``runs``; None if it left no row: it crashed, goes on, or only tidied up."""

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


def past_runs(store: Store) -> list[PastRun]:
    """All runs that are known of, the last first."""
    runs: dict[str, PastRun] = {}
    counts = ("read", "annotated", "settled", "revised", "empty", "partial", "failed", "deleted",
              "mentions")  # fmt: skip
    names = ("run_id", "job", "outcome", "annotator", "started_at", "seconds", *counts)
    for row in store.read("runs", names):
        run = PastRun(*(row[n] for n in names[:6]))
        run.counts = {n: row[n] or 0 for n in counts}
        runs[run.run_id] = run
    for commit in store.load().history():
        run_id = commit.get("pubmark.run_id")
        if not run_id:
            continue
        at = datetime.fromtimestamp(int(commit["timestamp"]) / 1000, UTC)
        run = runs.setdefault(run_id, PastRun(run_id))
        if run.counts is None and (run.started_at is None or at < run.started_at):
            run.started_at = at
        run.versions.insert(0, int(commit["version"]))
        run.changes.update({n: int(commit.get(f"pubmark.{n}", 0)) for n in _CHANGES})
    never = datetime.min.replace(tzinfo=UTC)
    return sorted(runs.values(), key=lambda r: (r.started_at or never, r.run_id), reverse=True)
