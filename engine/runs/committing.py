"""A committer for a run: what need not be written, and what another writer may not have done.

Enters: a run, a version of the table. Leaves: a :class:`Committer` that drops rows which have
become settled or superseded meanwhile, and fails where another writer has given the table another
task.
"""

import logging
from collections.abc import Collection
from functools import partial

import numpy as np
from deltalake import DeltaTable

from engine.planning.settled import settled_pmids, superseded
from engine.runs.result import Run
from engine.tables.annotators import refuse_other_task
from engine.tables.committer import Committer, Dropped
from schemas.configs.options import WriteOptions
from schemas.errors import JobError, UsageError

logger = logging.getLogger(__name__)


def committer_of(
    run: Run[WriteOptions],
    table: DeltaTable,
    present: np.ndarray | None,
    *,
    retry: Collection[str] = (),
    dropped: Dropped | None = None,
    any_task: bool = False,
) -> Committer:
    """What commits the rows of ``run`` to ``table``.

    ``present`` are the run's PMIDs that the table holds, sorted; None if that is not known. Rows of
    the statuses ``retry`` do not count as settled. ``dropped`` says which of the run's rows another
    writer has made superfluous, by default none. ``any_task``: the table's task
    may be another, as it is being replaced.
    """

    def check(newest: DeltaTable) -> None:
        if any_task:
            return
        try:
            refuse_other_task(run.store, run.annotator, newest)
        except UsageError as e:
            raise JobError(f"{e} (written by another run meanwhile)") from e

    return Committer(
        table,
        present,
        partial(settled_pmids, retry=retry),
        superseded=dropped,
        staged_late=partial(superseded, run.store),
        check=check,
        store=run.store,
        run_id=run.run_id,
        notes=run.notes,
    )


def place_staged(run: Run[WriteOptions], committer: Committer) -> None:
    """Put rows in their place that ended runs have staged: the model has been paid for them."""
    if run.store.has("staged") and (placed := committer.place_staged()):
        logger.info("put %d citations in their place that were annotated before", placed)
