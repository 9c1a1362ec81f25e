"""What keeps the tables small and quick: compacting, and deleting files that nobody needs.

Nothing of what the tables hold changes; readers and writers may go on meanwhile. delta-rs's own
compaction and Z-order are not used: they write Arrow's view types and files that overlap, see
layout/writer.py.
"""

import logging

from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError

from engine.tables.layout import leftovers
from engine.tables.layout.compaction import compact_once
from engine.tables.layout.files import NO_PMIDS, filesystem, stored_files
from engine.tables.layout.gathering import gather_once
from engine.tables.layout.writer import discard
from engine.tables.store import ALL_TABLES, Store
from engine.tables.transactions import MAX_TRIES, Transactions
from schemas.errors import JobError, reason

logger = logging.getLogger(__name__)

_GATHERED = tuple(name for name in ALL_TABLES if name not in ("annotations", "staged"))
"""The companion tables. Of ``staged`` whole files are taken out, each when its rows are in their
place."""


def compact(store: Store, run_id: str) -> tuple[int, int]:
    """Lay the rows of ``annotations`` into files of even size, by PMID, and put the small files of
    the companion tables together.

    Gives how many files of ``annotations`` were taken out, and put in.

    Raises:
        JobError: if other writers were faster twenty times, or the write failed.
    """
    transactions = Transactions(store.load(), run_id)
    removed = added = tries = 0
    try:
        while done := compact_once(transactions.table):
            if transactions.take_over(done, NO_PMIDS, data_change=False):
                removed, added = removed + len(done.removed), added + len(done.added)
            elif (tries := tries + 1) == MAX_TRIES:
                raise transactions.too_slow()
    except (DeltaError, OSError) as e:
        raise JobError(f"{transactions.uri}: commit failed: {reason(e)}") from e
    for name in _GATHERED:
        if files := gather(store, name):
            logger.info("put %d files of the table %s together", files, name)
    return removed, added


def gather(store: Store, name: str) -> int:
    """Put the small files of a companion table together, if it is there; gives how many there were.

    Raises:
        JobError: if other writers were faster twenty times, or the write failed.
    """
    gathered = tries = 0
    with store.writing(name):
        while (table := store.find(name)) is not None and (done := gather_once(table)) is not None:
            try:
                table.create_write_transaction(
                    done.actions(data_change=False), mode="append", schema=table.schema(),
                    commit_properties=CommitProperties(max_commit_retries=0),
                )  # fmt: skip
            except CommitFailedError as e:
                # Another writer was faster, or the commit was made and only the answer was lost.
                present = {f.path for f in stored_files(store.load(name))}
                if not {a.path for a in done.added} <= present:
                    discard(table, done.added)
                    if (tries := tries + 1) == MAX_TRIES:
                        raise JobError(f"{store.uri(name)}: commit failed: {reason(e)}") from e
                    continue
            gathered += len(done.removed)
    return gathered


def vacuum(store: Store, retention_hours: int, dry_run: bool = False) -> dict[str, int]:
    """Delete files that left a table so long ago, and such that no transaction took over and are as
    old; gives how many, by table.

    Raises:
        JobError: if that fails.
    """
    deleted = {}
    for name in filter(store.has, ALL_TABLES):
        with store.writing(name):
            deleted[name] = len(
                store.load(name).vacuum(
                    retention_hours, dry_run=dry_run, enforce_retention_duration=False, full=True
                )
            )
    return deleted


def remove_leftovers(store: Store) -> int:
    """Delete files that crashed runs have left in the tables; gives how many.

    Raises:
        JobError: if that fails.
    """
    removed = 0
    for name in ALL_TABLES:
        with store.writing(name):
            if store.has(name):
                uri = store.uri(name)
                removed += leftovers.remove_leftovers(filesystem(DeltaTable(uri)), uri)
    return removed
