"""``pubmark status``: what goes on in a table, from any machine that can read it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from engine.tables.store import Store
from engine.views.status import SILENT, Status, UnderWay, table_status
from schemas.configs.tables import StatusConfig


@dataclass(frozen=True)
class StatusResult:
    """A table, looked at ``now``."""

    source: str
    status: Status
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def summary(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        status, ended = self.status, self.status.ended
        return {
            "version": status.version,
            "rows": status.rows,
            "changed_at": status.changed_at.isoformat() if status.changed_at else None,
            "under_way": [run.summary(self.now) for run in status.under_way],
            "ended": ended and ended | {"started_at": _iso(ended["started_at"])},
        }


def run(config: StatusConfig) -> StatusResult:
    """Look at a table's log and its runs.

    Raises:
        UsageError: if there is no table of ours.
        JobError: if it cannot be read.
    """
    store = Store(config.source)
    store.require()
    return StatusResult(config.source, table_status(store))


def describe(result: StatusResult) -> str:
    """For a person."""
    return "\n".join(_lines(result))


def _lines(result: StatusResult) -> Iterator[str]:
    status, now = result.status, result.now
    changed = f", changed {_ago(now - status.changed_at)}" if status.changed_at else ""
    yield f"{result.source}: {status.rows:,} citations, version {status.version}{changed}"
    for run in status.under_way:
        yield from _of_run(run, now)
    if not status.under_way:
        yield "no run is under way, as far as the log says"
    if ended := status.ended:
        seconds = timedelta(seconds=round(ended["seconds"] or 0))
        bad = ", ".join(
            f"{ended[n]:,} {n}" for n in ("failed", "partial", "rejected", "damaged") if ended[n]
        )
        yield (
            f"the last run that ended: {ended['job']} {ended['run_id']}, {ended['outcome']} after "
            f"{seconds}, {ended['annotated'] or 0:,} annotated" + (f", {bad}" if bad else "")
        )


def _of_run(run: UnderWay, now: datetime) -> Iterator[str]:
    committed, progress = run.last
    share = progress.done / progress.planned if progress.planned else 1.0
    yield (
        f"{progress.job} {run.run_id} on {progress.host}, annotator {progress.annotator}: "
        f"{progress.done:,} of {progress.planned:,} citations ({share:.0%}), "
        f"{progress.failed:,} failed, last commit {_ago(now - committed)}"
    )
    if run.per_second is not None and run.seconds_left is not None:
        left = timedelta(seconds=round(run.seconds_left))
        yield f"  {run.per_second:,.1f} citations/s of late; {left} left from that commit on"
    every = sum(progress.by_engine.values()) or 1
    for engine, citations in sorted(progress.by_engine.items()):
        yield f"  engine {engine}: {citations:,} citations ({citations / every:.0%})"
    if now - committed > SILENT:
        yield (
            f"  nothing has been committed for {_span(now - committed)}: it may be dead, or waits "
            "for engines; the same command goes on from its last commit"
        )


def _ago(span: timedelta) -> str:
    return f"{_span(span)} ago"


def _span(span: timedelta) -> str:
    seconds = max(0, round(span.total_seconds()))
    return f"{seconds} s" if seconds < 120 else str(timedelta(seconds=seconds))


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


__all__ = ["StatusResult", "describe", "run"]
