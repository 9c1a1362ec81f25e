"""``pubmark history``: what each run has changed in a table, and how far a roll-out has come."""

from dataclasses import dataclass
from typing import Any

from rich.table import Table

from engine.tables.rows import count_annotators
from engine.tables.store import Store
from engine.views.history import PastRun, past_runs
from engine.views.terminal import cell
from schemas.configs.tables import HistoryConfig


@dataclass(frozen=True)
class History:
    """The runs, the last first, and the rows of each annotator that has some."""

    runs: list[PastRun]
    annotators: dict[str, int]

    def summary(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return {"runs": [r.summary() for r in self.runs], "annotators": self.annotators}


def run(config: HistoryConfig) -> History:
    """Look at the table's log and its runs.

    Raises:
        UsageError: if there is no table of ours.
    """
    store = Store(config.source)
    store.require()
    counts = count_annotators(store.load())
    return History(past_runs(store, config.limit), dict(counts.most_common()))


def to_table(history: History) -> Table:
    """For a terminal."""
    table = Table("run", "job", "outcome", "seconds", "versions", "new", "replaced", "revised",
                  "deleted", "failed", "annotator")  # fmt: skip
    for past in history.runs:
        versions = past.versions
        failed = past.counts["failed"] + past.counts["partial"] if past.counts else None
        values = (
            past.run_id,
            past.job or "",
            past.outcome or "not known",
            "" if past.seconds is None else f"{past.seconds:.0f}",
            f"{versions[0]}–{versions[-1]}" if len(versions) > 1 else "".join(map(str, versions)),
            *(f"{past.changes[n]:,}" for n in ("new", "replaced", "revised", "deleted")),
            "" if failed is None else f"{failed:,}",
            past.annotator or "",
        )
        table.add_row(*map(cell, values))
    return table


def describe(history: History) -> str:
    """Whose the rows are now."""
    rows = sum(history.annotators.values())
    return "\n".join(
        f"{count:,} of {rows:,} rows ({count / rows:.1%}) are of annotator {annotator}"
        for annotator, count in history.annotators.items()
    )
