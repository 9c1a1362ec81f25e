"""Rows of the annotations table made anew from their stored texts.

Enters: a run, and which rows. Leaves: the run's commits and its row in ``runs``. No source is read:
what failed is done again, and what another annotator made, though its files are long gone.

A row that another run has changed meanwhile, or removed, is left as that run has made it.
"""

import logging
from collections.abc import Callable, Collection
from functools import partial

from deltalake import DeltaTable

from engine.planning.settled import changed
from engine.runs import datasets
from engine.runs.committing import committer_of, place_staged
from engine.runs.pipeline import plan_engines
from engine.runs.result import Run, run_row
from engine.runs.stream import stream_rows
from engine.tables.annotators import introduce
from engine.tables.maintenance import remove_leftovers
from engine.tables.rows import Selection
from engine.tables.transactions import Overtaken
from schemas.configs.options import WriteOptions

logger = logging.getLogger(__name__)


def reannotate(
    job: str,
    run: Run[WriteOptions],
    find: Callable[[DeltaTable], Selection],
    retry: Collection[str] = (),
) -> None:
    """Annotate the rows that ``find`` selects, as the job ``job``, on the cluster that is
    connected.

    ``retry`` names statuses whose rows do not count as settled.

    Raises:
        JobError: if the run failed; what was committed before stays.
    """
    store, result = run.store, run.result
    committer = partial(committer_of, run, retry=retry, dropped=changed)
    result.job = job
    with run.recorded(lambda: run_row(run)):
        if left := remove_leftovers(store):
            logger.info("deleted %d files that a crashed run has left", left)
        store.create()
        introduce(store, run.annotator, run.run_id)
        place_staged(run, committer(store.load(), None))
        table = store.load()
        selected = find(table)
        result.read = len(selected.pmids)
        run.reporter.planned(result.read)
        if not result.read:
            return
        engines = plan_engines(run.options, run.annotator)
        ours = committer(table, selected.pmids)
        prepare = partial(datasets.prepared_rows, table, selected.pmids, run.annotator)
        try:
            stream_rows(run, prepare, result.read, ours, engines)
        finally:
            try:
                with run.interrupts.deferred():
                    ours.finish()
            except Overtaken:
                # What is staged goes where it still may; what does not is found by the next run.
                committer(store.load(), None).place_staged()
