"""Changing the annotations table: rows come, are replaced, and go.

Enters: finished rows, new metadata, PMIDs to remove. Leaves: committed transactions. A commit is
the only record of progress. It is atomic, and conditional on the state that it was planned on: if
another writer came first, the table is loaded again, and the commit stands if that writer touched
none of its files and PMIDs; if not, what has become settled is dropped and it is made anew.

New rows are appended at once. A row that replaces one costs the file that the other stands in, and
a few thousand all over PubMed cost every file. So such rows are *staged*: committed to a table of
their own, which no reader of ``annotations`` sees, until they are so many that a pass is worth it,
or the run ends. What a crash leaves there, the next run puts in its place before it plans: the
model has been paid for it.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError
from pyarrow.dataset import Dataset, dataset

from engine.tables.layout.compaction import compact
from engine.tables.layout.files import NO_PMIDS, STORED_SCHEMA, filesystem, stored_files, touched
from engine.tables.layout.rewrite import Changes, Rewrite, latest_rows, rewrite
from engine.tables.layout.writer import discard, write_rows
from engine.tables.reading import open_dataset, read_keys
from engine.tables.staging import newer
from engine.tables.store import Store
from engine.tables.transactions import APP_ID, MAX_TRIES, Overtaken, last_run, stands
from schemas.errors import JobError, reason

logger = logging.getLogger(__name__)

Dropped = Callable[[pa.Table, pa.Table], pa.Array]
"""Gets KEY_COLUMNS of stored rows, and rows to commit: which PMIDs of these need not be written?"""


_ROWS_READ_PER_REPLACED = 50
_ROWS_READ_AT_ONCE = 100_000
"""A pass over so many rows is a second or two; over more, only with enough to replace."""


@dataclass(frozen=True, slots=True)
class Commit:
    """What one commit did: rows written (or staged), rows dropped because another writer had
    settled them."""

    written: int
    dropped: int
    version: int


@dataclass(frozen=True, slots=True)
class Finish:
    """What the last commit of a run did, in rows, and bytes of new files."""

    replaced: int
    patched: int
    deleted: int
    bytes_written: int


class Committer:
    """Commits annotations to one table for one run.

    ``table`` is at the version that the run was planned on, and ``present`` are the PMIDs of the
    run that it holds there, sorted; None if that is not known. ``settled`` and ``superseded`` say
    which rows need not be written: because the table has the like, or a later record. ``check``
    gets each state of the table that another writer has left, and raises if the run cannot go on.
    Without ``store``, nothing is staged: each row is put in its place at once.
    """

    def __init__(
        self,
        table: DeltaTable,
        present: np.ndarray | None,
        settled: Dropped,
        *,
        superseded: Dropped | None = None,
        check: Callable[[DeltaTable], None] = lambda table: None,
        store: Store | None = None,
        run_id: str = "",
    ):
        self._table = table
        # Spares every commit a look at the table, until another writer changes it.
        self._present = present
        self._settled = settled
        self._superseded = superseded or (lambda stored, rows: pa.array([], pa.int64()))
        self._check = check
        self._store = store
        self._run_id = run_id
        self._staged = NO_PMIDS

    @property
    def table(self) -> DeltaTable:
        """The table as this run last saw it."""
        return self._table

    def commit(self, rows: pa.Table) -> Commit:
        """Write ``rows`` (ANNOTATIONS_SCHEMA, a PMID once): new ones in one transaction, those
        that replace a row likewise, or staged.

        Raises:
            JobError: if other writers were faster twenty times in a row, or the write failed.
        """
        try:
            return self._commit(rows.sort_by("pmid"))
        except (DeltaError, OSError) as e:
            raise JobError(f"{self._table.table_uri}: commit failed: {reason(e)}") from e

    def finish(
        self,
        patches: pa.Table | None = None,
        gone: np.ndarray = NO_PMIDS,
        transactions: Sequence[Transaction] = (),
    ) -> Finish:
        """In one transaction: put the run's staged rows in their place, change the metadata of
        ``patches`` (METADATA_COLUMNS by ``pmid``), remove ``gone`` (sorted), and note
        ``transactions``. Nothing is written if that is nothing.

        Raises:
            Overtaken: if another writer changed the table since the run was planned.
            JobError: if the write failed.
        """
        try:
            return self._finish(patches, gone, transactions)
        except (DeltaError, OSError) as e:
            raise JobError(f"{self._table.table_uri}: commit failed: {reason(e)}") from e

    def place_staged(self) -> int:
        """Put in their place all rows that ended runs have staged; says how many there were.

        Raises:
            JobError: if the write failed.
        """
        try:
            for _ in range(MAX_TRIES):
                files = self._staged_files(None)
                if not files:
                    return 0
                rows = self._staged_rows(files)
                keys = rows.to_table(columns=["pmid", "source", "annotated_at"])
                stored = read_keys(
                    self._table, np.unique(keys["pmid"]), ["pmid", "source", "annotated_at"]
                )
                fresh = newer(keys, stored)
                late = self._superseded(stored, keys).to_numpy()
                pmids = np.setdiff1d(fresh, late)
                held = np.intersect1d(pmids, stored["pmid"].to_numpy())
                new = (
                    latest_rows([rows], np.setdiff1d(pmids, held))
                    if len(pmids) > len(held)
                    else STORED_SCHEMA.empty_table()
                )
                if not len(pmids) or self._try(Changes([rows], held), new) is not None:
                    self._unstage(files)
                    self._present = None
                    return len(pmids)
        except (DeltaError, OSError) as e:
            raise JobError(f"{self._table.table_uri}: commit failed: {reason(e)}") from e
        raise self._too_slow()

    def compact(self) -> tuple[int, int]:
        """Lay the table's rows into files of even size, by PMID; nothing of what it holds changes.
        Says how many files were taken out, and put in.

        Raises:
            JobError: if other writers were faster twenty times, or the write failed.
        """
        removed = added = tries = 0
        try:
            while done := compact(self._table):
                if self._take_over(done, NO_PMIDS, data_change=False):
                    removed, added = removed + len(done.removed), added + len(done.added)
                elif (tries := tries + 1) == MAX_TRIES:
                    raise self._too_slow()
        except (DeltaError, OSError) as e:
            raise JobError(f"{self._table.table_uri}: commit failed: {reason(e)}") from e
        return removed, added

    def remove_annotators(self, annotators: Sequence[str]) -> int:
        """Delete, in one transaction, all rows of the given annotators; says how many."""
        for _ in range(MAX_TRIES):
            self._table = self._load()
            found = open_dataset(self._table).to_table(
                columns=["pmid"],
                filter=pc.field("annotator").isin(pa.array(annotators, pa.string())),
            )
            gone = np.unique(found["pmid"])
            if not len(gone):
                return 0
            done = self._try(Changes(gone=gone))
            if done is not None:
                return len(gone)
        raise self._too_slow()

    def _commit(self, rows: pa.Table) -> Commit:
        given, written = len(rows), 0
        for _ in range(MAX_TRIES):
            rows, present = self._unsettled(rows)
            dropped = given - len(rows) - written
            old, new = rows.filter(present), rows.filter(pc.invert(present))
            if len(old) and self._store and self._is_costly(old["pmid"].to_numpy()):
                self._store.append("staged", old)
                self._staged = np.union1d(self._staged, old["pmid"])
                rows, written, old = new, written + len(old), old.slice(0, 0)
            if not len(rows):
                return Commit(written, dropped, self._table.version())
            # Staged rows come along, unless another writer came between: they are planned anew.
            along = len(old) and len(self._staged) and self._present is not None
            files = self._staged_files(self._run_id) if along else []
            waiting = [self._staged_rows(files)] if files else []
            pmids = np.union1d(self._staged if files else NO_PMIDS, old["pmid"])
            if self._try(Changes([*waiting, dataset(old)], pmids), new) is not None:
                if files:
                    self._unstage(files)
                    self._staged = NO_PMIDS
                return Commit(written + len(rows), dropped, self._table.version())
        raise self._too_slow()

    def _finish(
        self, patches: pa.Table | None, gone: np.ndarray, transactions: Sequence[Transaction]
    ) -> Finish:
        if self._present is None:
            raise Overtaken
        if patches is not None:
            patches = patches.sort_by("pmid").combine_chunks()
        files = self._staged_files(self._run_id) if len(self._staged) else []
        rows = [self._staged_rows(files)] if files else []
        changes = Changes(rows, np.setdiff1d(self._staged, gone), patches, gone)
        if not len(changes.pmids()) and not transactions:
            return Finish(0, 0, 0, 0)
        done = self._try(changes, transactions=transactions)
        if done is None:
            raise Overtaken
        self._unstage(files)
        self._staged = NO_PMIDS
        return Finish(len(changes.replaced), len(changes.patched()), len(gone), done.bytes_written)

    def _try(
        self,
        changes: Changes,
        new: pa.Table | None = None,
        transactions: Sequence[Transaction] = (),
    ) -> Rewrite | None:
        """Change rows and append ``new`` ones in one transaction; None if it has to be planned
        again, as another writer changed what it is about. The table is then its newest state."""
        pmids = changes.pmids()
        done = rewrite(self._table, changes) if len(pmids) else Rewrite([], [], NO_PMIDS)
        if len(done.found) != len(pmids):
            discard(self._table, done.added)
            raise JobError(
                f"{self._table.table_uri}: holds {len(done.found)} of {len(pmids)} citations to "
                "change, expected all"
            )
        if new is not None and len(new):
            done.added.extend(write_rows(self._table, new))
            pmids = np.union1d(pmids, new["pmid"])
        counts = {
            "new": 0 if new is None else len(new),
            "replaced": len(changes.replaced),
            "revised": len(changes.patched()),
            "deleted": len(changes.gone),
        }
        taken = self._take_over(done, pmids, transactions, counts=counts)
        return done if taken else None

    def _take_over(
        self,
        done: Rewrite,
        pmids: np.ndarray,
        transactions: Sequence[Transaction] = (),
        data_change: bool = True,
        counts: dict[str, int] | None = None,
    ) -> bool:
        """Make the transaction that puts written files, with news about ``pmids``, in the table.

        False, and the files are deleted, if another writer changed what they were made from.
        """
        for _ in range(MAX_TRIES):
            try:
                version = self._transact(done, transactions, data_change, counts or {})
            except CommitFailedError as e:
                before, newest = self._table, self._load()
                there = {f.path for f in stored_files(newest)}
                if done.added and {a.path for a in done.added} <= there:
                    self._table, self._present = newest, None
                    return True  # it was made, and only the answer was lost
                if newest.version() == before.version():  # nobody was: it failed by itself
                    discard(before, done.added)
                    raise JobError(f"{newest.table_uri}: commit failed: {reason(e)}") from e
                logger.info("another writer (run %s) was faster", last_run(newest))
                self._table, self._present = newest, None
                if not stands(done, pmids, before, newest):
                    discard(newest, done.added)
                    self._check(newest)
                    return False
                self._check(newest)
            else:
                # The very version that was made: another writer may have made one since.
                self._table = DeltaTable(self._table.table_uri, version=version)
                return True
        discard(self._table, done.added)
        raise self._too_slow()

    def _transact(
        self,
        done: Rewrite,
        transactions: Sequence[Transaction],
        data_change: bool,
        counts: dict[str, int],
    ) -> int:
        """Make a transaction; says the version that it makes. ``counts`` (rows by what was done
        with them) and the run stand in the table's log."""
        sequence = (self._table.transaction_version(APP_ID) or 0) + 1
        self._table.create_write_transaction(
            done.actions(data_change),
            mode="append",
            schema=self._table.schema(),
            # Without retries there is no silent rebase onto another writer's commit: its rows may
            # be the same as ours.
            commit_properties=CommitProperties(
                app_transactions=[Transaction(APP_ID, sequence), *transactions],
                max_commit_retries=0,
                custom_metadata={
                    "pubmark.run_id": self._run_id,
                    **{f"pubmark.{name}": str(count) for name, count in counts.items() if count},
                },
            ),
        )
        return self._table.version() + 1

    def _load(self) -> DeltaTable:
        return DeltaTable(self._table.table_uri)

    def _too_slow(self) -> JobError:
        return JobError(
            f"{self._table.table_uri}: other writers were faster {MAX_TRIES} times in a row, last "
            f"run {last_run(self._load())}"
        )

    def _unsettled(self, rows: pa.Table) -> tuple[pa.Table, pa.ChunkedArray]:
        """The rows still to write, and which of them replace one."""
        present = self._present
        if present is None:
            stored = read_keys(self._table, rows["pmid"].to_numpy())
            present = stored["pmid"].to_numpy()
            for drop in (self._settled, self._superseded):
                rows = rows.filter(pc.invert(pc.is_in(rows["pmid"], drop(stored, rows))))
        return rows, pc.is_in(rows["pmid"], pa.array(present, pa.int64()))

    def _is_costly(self, pmids: np.ndarray) -> bool:
        """Whether to replace these, and what is staged, would be a pass out of all proportion."""
        pmids = np.union1d(pmids, self._staged)
        read = sum(f.rows for f in touched(stored_files(self._table), pmids))
        return read > max(_ROWS_READ_AT_ONCE, _ROWS_READ_PER_REPLACED * len(pmids))

    def _staged_files(self, run_id: str | None) -> list[str]:
        """The files that a run has staged; None is any run."""
        if self._store is None or not self._store.has("staged"):
            return []
        files = pa.table(self._store.load("staged").get_add_actions(flatten=True))
        if not len(files):
            return []
        # What is staged together is of one run.
        pairs = zip(files["path"].to_pylist(), files["min.run_id"].to_pylist(), strict=True)
        return [path for path, run in pairs if run_id in (None, run)]

    def _staged_rows(self, files: list[str]) -> Dataset:
        assert self._store is not None
        fs = filesystem(self._store.load("staged"))
        return dataset(files, format="parquet", filesystem=fs)

    def _unstage(self, files: list[str]) -> None:
        """Take files out of the staging table. If that fails, the next run finds them settled."""
        if not files or self._store is None:
            return
        for _ in range(MAX_TRIES):
            table = self._store.load("staged")
            there = [f for f in stored_files(table) if f.path in set(files)]
            actions = Rewrite([], there, NO_PMIDS).actions(data_change=True)
            try:
                if actions:
                    table.create_write_transaction(
                        actions, mode="append", schema=table.schema(),
                        commit_properties=CommitProperties(max_commit_retries=0),
                    )  # fmt: skip
                return
            except CommitFailedError:
                continue


__all__ = ["Commit", "Committer", "Finish", "Overtaken"]
