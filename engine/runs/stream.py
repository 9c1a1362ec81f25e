"""What every run that writes rows does: its figures, its commits, its row in ``runs``.

Enters: prepared citations, streaming. Leaves: committed rows, what failed in ``failures``, and the
run's own row. Left to others: which citations, and what is done beside annotating them.
"""

import logging
import time
from collections.abc import Callable
from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc
from ray.data import Dataset

from engine.backends.base import EngineSettings
from engine.runs import pipeline
from engine.runs.result import Run
from engine.tables.committer import Committer
from schemas.annotations import ANNOTATIONS_SCHEMA, FAILURES_SCHEMA
from schemas.configs.options import WriteOptions
from schemas.errors import JobError

logger = logging.getLogger(__name__)


_MAX_FAILURES = 10_000
"""Failed prompts that a run keeps with their output: at 4 KB at most some 40 MB, however bad it is.
The error of every citation stands in its row."""


def stream_rows(
    run: Run[WriteOptions],
    prepare: Callable[[int], Dataset],
    planned: int,
    committer: Committer,
    engines: tuple[EngineSettings, pipeline.Pool],
) -> None:
    """Stream citations through the engines, and commit as they come back.

    ``prepare`` gives the ``planned`` citations with their prompts, in batches of the size that it
    is told. ``engines`` is what pipeline.plan_engines gave. However it ends, what came back is
    committed first.
    """
    options, result = run.options, run.result
    settings, pool = engines
    figures = result.figures
    before = figures.rows
    result.planned = before + planned
    waiting: list[pa.Table] = []
    failures: list[pa.Table] = []
    last_commit = time.monotonic()

    def commit() -> None:
        nonlocal last_commit
        if waiting:
            with run.interrupts.deferred():
                if failures:  # first: one whose row was not committed harms nobody
                    run.store.append("failures", pa.concat_tables(failures))
                    result.failures_kept += sum(map(len, failures))
                    failures.clear()
                done = committer.commit(pa.concat_tables(waiting))
                waiting.clear()
                result.annotated += done.written
                result.settled += done.dropped
            speed = figures.rows / max(figures.generating_seconds(), 1e-9)
            left = before + planned - figures.rows
            logger.info(
                "committed %d citations as version %d: %d of %d done, %d failed, %.1f citations/s, "
                "%s left",
                done.written, done.version, figures.rows - before, planned,
                figures.statuses["failed"] + figures.statuses["partial"], speed,
                timedelta(seconds=round(left / speed)) if speed else "?",
            )  # fmt: skip
        last_commit = time.monotonic()

    try:
        for batch in pipeline.annotate(
            prepare(pool.batch_citations),
            run.annotator,
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
            run.reporter.progressed(figures)
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
