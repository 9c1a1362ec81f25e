"""Rows of the annotations table made anew from their stored texts.

Enters: PMIDs of rows, an annotator. Leaves: one run's commits and its row in ``runs``. No source is
read: what failed is done again, and what another annotator made, though its files are long gone.

A row that another run has changed meanwhile, or removed, is left as that run has made it.
"""

import logging
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable

from engine.planning.settled import changed, settled_pmids, superseded
from engine.runs import datasets
from engine.runs.figures import Reporter
from engine.runs.interrupts import Interrupts
from engine.runs.result import RunResult, recorded, run_row
from engine.runs.stream import stream_rows
from engine.steps.annotator import Annotator
from engine.tables.annotators import introduce, refuse_other_task
from engine.tables.committer import Committer
from engine.tables.rows import Found
from engine.tables.store import Store
from engine.tables.transactions import Overtaken
from schemas.configs.options import WriteOptions
from schemas.errors import JobError, UsageError

logger = logging.getLogger(__name__)


def reannotate(
    job: str,
    find: Callable[[DeltaTable], Found],
    annotator: Annotator,
    options: WriteOptions,
    store: Store,
    result: RunResult,
    interrupts: Interrupts,
    reporter: Reporter,
    retry: Collection[str] = (),
) -> None:
    """Annotate the rows that ``find`` finds, as the run ``job``, on the cluster that is connected.

    ``retry`` names statuses whose rows do not count as settled.

    Raises:
        JobError: if the run failed; what was committed before stays.
    """

    def row() -> dict[str, Any]:
        return run_row(result, annotator, job)

    with recorded(result, interrupts, store, row):
        if left := store.remove_leftovers():
            logger.info("deleted %d files that a crashed run has left", left)
        store.create()
        introduce(store, annotator, result.run_id)
        committer = partial(_committer, store=store, run_id=result.run_id, retry=retry,
                            annotator=annotator)  # fmt: skip
        committer(store.load(), None).place_staged()
        table = store.load()
        found = find(table)
        result.read = len(found.pmids)
        reporter.planned(result.read)
        if not result.read:
            return
        ours = committer(table, found.pmids)
        try:
            stream_rows(
                partial(datasets.prepared_rows, table, found.pmids, annotator),
                result.read,
                annotator,
                options,
                ours,
                store,
                result,
                interrupts,
                reporter,
            )
        finally:
            try:
                with interrupts.deferred():
                    ours.finish()
            except Overtaken:
                # What is staged goes where it still may; what does not is found by the next run.
                committer(store.load(), None).place_staged()


def _committer(
    table: DeltaTable,
    present: np.ndarray | None,
    *,
    annotator: Annotator,
    store: Store,
    run_id: str,
    retry: Collection[str],
) -> Committer:
    def check(newest: DeltaTable) -> None:
        try:
            refuse_other_task(store, annotator, newest)
        except UsageError as e:
            raise JobError(f"{e} (written by another run meanwhile)") from e

    def dropped(stored: pa.Table, rows: pa.Table) -> pa.Array:
        # Of staged rows only the keys are at hand.
        if "text_digest" not in rows.column_names:
            return superseded(store, stored, rows)
        return changed(stored, rows)

    return Committer(
        table,
        present,
        partial(settled_pmids, retry=retry),
        superseded=dropped,
        check=check,
        store=store,
        run_id=run_id,
    )
