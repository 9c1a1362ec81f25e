"""Changing the annotations table: rows are added, replaced, given new metadata, and removed.

Enters: finished rows, new metadata, PMIDs to remove. Leaves: committed transactions. A commit is
the only record of progress. It is atomic, and conditional on the version of the table that it was
planned on. If another writer committed first, the newest version is loaded. Where that writer
changed none of the commit's files and PMIDs, the commit is tried again as it is; otherwise the rows
that need no longer be written are dropped, and it is planned anew.

New rows are appended at once; those that replace a row may be staged first (staging.py). Neither
Ray Data's ``write_delta`` nor delta-rs's merge could do this: both commit what they were given
without asking whether another writer has settled it, and a merge rewrites whatever files it meets.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, Transaction
from deltalake.exceptions import DeltaError
from pyarrow.dataset import dataset

from engine.tables.layout.files import NO_PMIDS, STORED_SCHEMA, stored_files, touched
from engine.tables.layout.rewrite import Changes, Rewrite, latest_rows, rewrite
from engine.tables.layout.writer import discard, write_rows
from engine.tables.reading import KEY_COLUMNS, open_dataset, read_keys
from engine.tables.staging import Staging, newer
from engine.tables.store import Store
from engine.tables.transactions import MAX_TRIES, Overtaken, Transactions
from schemas.errors import JobError, reason

Dropped = Callable[[pa.Table, pa.Table], pa.Array]
"""A rule for rows that need not be written: gets KEY_COLUMNS of the stored rows, and the rows to
commit; gives the PMIDs to drop."""

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
class LastCommit:
    """What the last commit of a run did, in rows, and bytes of new files."""

    replaced: int
    patched: int
    deleted: int
    bytes_written: int


class Committer:
    """Commits annotations to one table for one run.

    ``table`` is at the version that the run was planned on. ``present`` are those of the run's
    PMIDs that this version holds, sorted; None if that is not known. Three rules say which rows to
    drop after another writer's commit: ``settled``, those for which the table has an annotation as
    good; ``superseded``, those whose citation it has from a later record; ``staged_late``, the
    latter among rows that earlier runs have staged. ``check`` gets each version that another writer
    has committed, and raises if the run cannot go on. Without ``store`` nothing is staged: each row
    is written to the table at once. ``notes`` gives what each commit says beside its counts.
    """

    def __init__(
        self,
        table: DeltaTable,
        present: np.ndarray | None,
        settled: Dropped,
        *,
        superseded: Dropped | None = None,
        staged_late: Dropped | None = None,
        check: Callable[[DeltaTable], None] = lambda table: None,
        store: Store | None = None,
        run_id: str = "",
        notes: Callable[[], Mapping[str, str]] = dict,
    ):
        self._transactions = Transactions(table, run_id, check, notes)
        self._planned = present
        self._settled = settled
        self._superseded = superseded or _none
        self._staged_late = staged_late or _none
        self._staging = Staging(store, run_id, notes) if store else None

    @property
    def table(self) -> DeltaTable:
        """The table as this run last saw it."""
        return self._transactions.table

    @property
    def _present(self) -> np.ndarray | None:
        """Those of the run's PMIDs that the table holds; None, and then to be read from it, once
        another writer has changed it."""
        return None if self._transactions.overtaken else self._planned

    def commit(self, rows: pa.Table) -> Commit:
        """Write ``rows`` (ANNOTATIONS_SCHEMA, a PMID once): new ones in one transaction, those
        that replace a row likewise, or staged.

        Raises:
            JobError: if other writers were faster twenty times in a row, or the write failed.
        """
        try:
            return self._commit(rows.sort_by("pmid"))
        except (DeltaError, OSError) as e:
            raise self._failed(e) from e

    def finish(
        self,
        patches: pa.Table | None = None,
        gone: np.ndarray = NO_PMIDS,
        transactions: Sequence[Transaction] = (),
    ) -> LastCommit:
        """In one transaction: write the run's staged rows to the table, change the metadata of
        ``patches`` (METADATA_COLUMNS by ``pmid``), remove the PMIDs of ``gone`` (sorted), and
        record ``transactions``. Where there is none of this, nothing is committed.

        Raises:
            Overtaken: if another writer changed the table since the run was planned.
            JobError: if the write failed.
        """
        try:
            return self._finish(patches, gone, transactions)
        except (DeltaError, OSError) as e:
            raise self._failed(e) from e

    def place_staged(self) -> int:
        """Write to the table all rows that ended runs have left staged; gives how many.

        Raises:
            JobError: if the write failed.
        """
        try:
            return self._place_staged()
        except (DeltaError, OSError) as e:
            raise self._failed(e) from e

    def remove_annotators(self, annotators: Sequence[str]) -> int:
        """Delete, in one transaction, all rows of the given annotators; gives how many."""
        for _ in range(MAX_TRIES):
            rows = open_dataset(self._transactions.reload()).to_table(
                columns=["pmid"],
                filter=pc.field("annotator")
                .cast(pa.string())
                .isin(pa.array(annotators, pa.string())),
            )
            gone = np.unique(rows["pmid"])
            if not len(gone):
                return 0
            if self._try(Changes(gone=gone)) is not None:
                return len(gone)
        raise self._transactions.too_slow()

    def _commit(self, rows: pa.Table) -> Commit:
        given, written, staging = len(rows), 0, self._staging
        for _ in range(MAX_TRIES):
            rows, present = self._unsettled(rows)
            dropped = given - len(rows) - written
            old, new = rows.filter(present), rows.filter(pc.invert(present))
            if len(old) and staging and self._is_costly(old["pmid"].to_numpy()):
                staging.add(old)
                rows, written, old = new, written + len(old), old.slice(0, 0)
            if not len(rows):
                return Commit(written, dropped, self.table.version())
            # What is staged is written in the same pass over the files, unless another writer has
            # changed the table: those rows are planned anew at the end of the run.
            along = staging and len(old) and len(staging.pmids) and self._present is not None
            files = staging.files() if staging and along else []
            waiting = [staging.rows(files)] if staging and files else []
            pmids = np.union1d(staging.pmids if staging and files else NO_PMIDS, old["pmid"])
            if self._try(Changes([*waiting, dataset(old)], pmids), new) is not None:
                if staging and files:
                    staging.remove(files)
                return Commit(written + len(rows), dropped, self.table.version())
        raise self._transactions.too_slow()

    def _finish(
        self, patches: pa.Table | None, gone: np.ndarray, transactions: Sequence[Transaction]
    ) -> LastCommit:
        if self._present is None:
            raise Overtaken
        if patches is not None:
            patches = patches.sort_by("pmid").combine_chunks()
        staging = self._staging
        files = staging.files() if staging and len(staging.pmids) else []
        rows = [staging.rows(files)] if staging and files else []
        staged = staging.pmids if staging else NO_PMIDS
        changes = Changes(rows, np.setdiff1d(staged, gone), patches, gone)
        if not len(changes.pmids()) and not transactions:
            return LastCommit(0, 0, 0, 0)
        done = self._try(changes, transactions=transactions)
        if done is None:
            raise Overtaken
        if staging:
            staging.remove(files)
        return LastCommit(
            len(changes.replaced), len(changes.patched()), len(gone), done.bytes_written
        )

    def _place_staged(self) -> int:
        staging, columns = self._staging, [*KEY_COLUMNS, "annotated_at"]
        for _ in range(MAX_TRIES):
            files = staging.files(any_run=True) if staging else []
            if staging is None or not files:
                return 0
            rows = staging.rows(files)
            keys = rows.to_table(columns=columns)
            stored = read_keys(self.table, np.unique(keys["pmid"]), columns)
            late = self._staged_late(stored, keys).to_numpy()
            pmids = np.setdiff1d(newer(keys, stored), late)
            held = np.intersect1d(pmids, stored["pmid"].to_numpy())
            new = (
                latest_rows([rows], np.setdiff1d(pmids, held))
                if len(pmids) > len(held)
                else STORED_SCHEMA.empty_table()
            )
            if not len(pmids) or self._try(Changes([rows], held), new) is not None:
                staging.remove(files)
                self._planned = None
                return len(pmids)
        raise self._transactions.too_slow()

    def _try(
        self,
        changes: Changes,
        new: pa.Table | None = None,
        transactions: Sequence[Transaction] = (),
    ) -> Rewrite | None:
        """Change rows and append ``new`` ones in one transaction. None if another writer changed
        the same files or PMIDs: the newest version is then loaded, for the caller to plan on."""
        pmids, table = changes.pmids(), self.table
        done = rewrite(table, changes) if len(pmids) else Rewrite([], [], NO_PMIDS)
        if len(done.found) != len(pmids):
            discard(table, done.added)
            raise JobError(
                f"{table.table_uri}: holds {len(done.found)} of {len(pmids)} citations to "
                "change, expected all"
            )
        if new is not None and len(new):
            done.added.extend(write_rows(table, new))
            pmids = np.union1d(pmids, new["pmid"])
        counts = {
            "new": 0 if new is None else len(new),
            "replaced": len(changes.replaced),
            "revised": len(changes.patched()),
            "deleted": len(changes.gone),
        }
        taken = self._transactions.take_over(done, pmids, transactions, counts=counts)
        return done if taken else None

    def _unsettled(self, rows: pa.Table) -> tuple[pa.Table, pa.ChunkedArray]:
        """The rows still to write, and which of them replace one."""
        present = self._present
        if present is None:
            stored = read_keys(self.table, rows["pmid"].to_numpy())
            present = stored["pmid"].to_numpy()
            for drop in (self._settled, self._superseded):
                rows = rows.filter(pc.invert(pc.is_in(rows["pmid"], drop(stored, rows))))
        return rows, pc.is_in(rows["pmid"], pa.array(present, pa.int64()))

    def _is_costly(self, pmids: np.ndarray) -> bool:
        """Whether replacing these rows, and the staged ones with them, would rewrite far more rows
        than it replaces: then they are staged until enough have come together."""
        assert self._staging is not None
        pmids = np.union1d(pmids, self._staging.pmids)
        read = sum(f.rows for f in touched(stored_files(self.table), pmids))
        return read > max(_ROWS_READ_AT_ONCE, _ROWS_READ_PER_REPLACED * len(pmids))

    def _failed(self, error: Exception) -> JobError:
        return JobError(f"{self._transactions.uri}: commit failed: {reason(error)}")


def _none(stored: pa.Table, rows: pa.Table) -> pa.Array:
    return pa.array([], pa.int64())


__all__ = ["Commit", "Committer", "Dropped", "LastCommit"]
