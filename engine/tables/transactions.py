"""One conditional transaction on a table, and what another writer's being faster means for it."""

import numpy as np
from deltalake import DeltaTable
from pyarrow.dataset import dataset

from engine.tables.layout.files import filesystem, stored_files, touched
from engine.tables.layout.rewrite import Rewrite
from engine.tables.ledger import FILES_ID

APP_ID = "pubmark"


MAX_TRIES = 20


class Overtaken(Exception):
    """Another writer changed what a run was planned on: plan again, and it costs little more."""


def stands(done: Rewrite, pmids: np.ndarray, before: DeltaTable, newest: DeltaTable) -> bool:
    """Whether what was written for one state of the table is right for a newer one: the files that
    it replaces are there, and no new file holds one of its PMIDs."""
    if len(pmids) and before.transaction_version(FILES_ID) != newest.transaction_version(FILES_ID):
        return False  # files were taken in: they may speak of our PMIDs without a row of theirs
    old = {f.path for f in stored_files(before)}
    files = stored_files(newest)
    if not {f.path for f in done.removed} <= {f.path for f in files}:
        return False
    added = touched((f for f in files if f.path not in old), pmids)
    data = dataset([f.path for f in added], format="parquet", filesystem=filesystem(newest))
    return not added or not np.isin(data.to_table(columns=["pmid"])["pmid"], pmids).any()


def last_run(table: DeltaTable) -> str:
    """The run that made the newest version of a table."""
    return str(table.history(1)[0].get("pubmark.run_id") or "unknown")
