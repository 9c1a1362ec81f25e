"""What goes on in a table now: runs under way, how far they are, and what the last one came to.

Enters: the store. Leaves: runs that have committed of late and have no row in ``runs`` yet. Nothing
is asked of the machines on which they run: all stands in the logs of ``annotations`` and
``staged``.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from engine.tables.commits import read_log
from engine.tables.progress import Progress
from engine.tables.store import Store

SILENT = timedelta(minutes=15)
"""A run that has committed nothing for so long may be dead: one commits every minute, if not told
otherwise."""
_WINDOW = timedelta(hours=1)
"""How far back before the last commit runs are looked for."""
_NAMES = ("run_id", "job", "outcome", "started_at", "seconds", "annotated", "failed", "partial",
          "rejected", "damaged")  # fmt: skip


@dataclass(slots=True)
class UnderWay:
    """A run without an end, by its commits: the ``first`` of those that were looked at, and the
    ``last``, each with its time."""

    run_id: str
    first: tuple[datetime, Progress]
    last: tuple[datetime, Progress]

    @property
    def per_second(self) -> float | None:
        """Citations a second, between two commits or since the run started; None if not known."""
        (begin, before), (end, now) = self.first, self.last
        if begin == end:
            begin, done = now.started_at, now.done
        else:
            done = now.done - before.done
        seconds = (end - begin).total_seconds()
        return done / seconds if seconds > 0 and done > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """From its last commit on, at the rate of late; None if not known."""
        left = self.last[1].planned - self.last[1].done
        return None if self.per_second is None else max(0, left) / self.per_second

    def summary(self, now: datetime) -> dict[str, Any]:
        """As JSON."""
        committed, progress = self.last
        silent = now - committed
        return {
            "run_id": self.run_id,
            "job": progress.job,
            "annotator": progress.annotator,
            "host": progress.host,
            "started_at": progress.started_at.isoformat(),
            "committed_at": committed.isoformat(),
            "silent": silent > SILENT,
            "planned": progress.planned,
            "done": progress.done,
            "failed": progress.failed,
            "prompts": progress.prompts,
            "per_second": self.per_second,
            "seconds_left": self.seconds_left,
            "by_engine": dict(progress.by_engine),
        }


@dataclass(slots=True)
class Status:
    """A table as it is now: its version and rows, when it was last changed, what is under way, and
    the row of the run that ended last."""

    version: int
    rows: int
    changed_at: datetime | None
    under_way: list[UnderWay] = field(default_factory=list)
    ended: dict[str, Any] | None = None


def table_status(store: Store) -> Status:
    """Look at a table.

    Raises:
        UsageError: if there is none.
        JobError: if it cannot be read.
    """
    table = store.load()
    ended = store.read("runs", _NAMES)
    known = {row["run_id"] for row in ended}
    found: dict[str, UnderWay] = {}
    changed_at: datetime | None = None
    for name in ("annotations", "staged"):
        if (log := store.find(name)) is None:
            continue
        newest: datetime | None = None
        for entry in read_log(log):
            if entry.time is None:
                continue
            newest = newest or entry.time
            if entry.time < newest - _WINDOW:
                break
            run_id, progress = entry.notes.get("pubmark.run_id"), Progress.of(entry.notes)
            if progress is None or run_id is None or run_id in known:
                continue
            moment = (entry.time, progress)
            run = found.setdefault(run_id, UnderWay(run_id, moment, moment))
            run.first = min(run.first, moment, key=lambda m: m[0])
            run.last = max(run.last, moment, key=lambda m: m[0])
        changed_at = max(filter(None, (changed_at, newest)), default=None)
    return Status(
        table.version(),
        table.count(),
        changed_at,
        sorted(found.values(), key=lambda run: run.last[0], reverse=True),
        max(ended, key=lambda row: row["started_at"] or datetime.min.replace(tzinfo=UTC))
        if ended
        else None,
    )
