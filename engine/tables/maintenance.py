"""What keeps the tables small and quick: compacting, and deleting files that nobody needs.

Nothing of what the tables hold changes; readers and writers may go on meanwhile. delta-rs's own
compaction and Z-order are not used: they write Arrow's view types and files that overlap, see
layout/writer.py.
"""

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from engine.tables.layout import leftovers
from engine.tables.layout.compaction import compact_once
from engine.tables.layout.files import NO_PMIDS, filesystem
from engine.tables.store import ALL_TABLES, Store
from engine.tables.transactions import MAX_TRIES, Transactions
from schemas.errors import JobError, reason


def compact(store: Store, run_id: str) -> tuple[int, int]:
    """Lay the rows of ``annotations`` into files of even size, by PMID.

    Gives how many files were taken out, and put in.

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
    return removed, added


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
