"""The Delta tables under one root: annotations, annotators, runs.

Enters: finished rows. Leaves: committed rows. A commit is the only record of progress. It is
atomic, and conditional on the state that it was planned on: if another writer came first, the
table is loaded again, what has become settled is dropped, and the commit is tried once more.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from pyarrow.dataset import Dataset
from pyarrow.fs import FileSystem, SubTreeFileSystem

from schemas.annotations import (
    ANNOTATIONS_SCHEMA,
    ANNOTATORS_SCHEMA,
    RUNS_SCHEMA,
    SCHEMA_VERSION,
)
from schemas.errors import JobError, UsageError

logger = logging.getLogger(__name__)

TABLES = {
    "annotations": ANNOTATIONS_SCHEMA,
    "annotators": ANNOTATORS_SCHEMA,
    "runs": RUNS_SCHEMA,
}
KEY_COLUMNS = ("pmid", "text_digest", "annotator", "status")
_VERSION_KEY = "pubmark.schema_version"
_APP_ID = "pubmark"
_MAX_TRIES = 20
_WRITER = WriterProperties(compression="ZSTD", compression_level=3)


@dataclass(frozen=True, slots=True)
class Commit:
    """What one commit did: rows written, rows dropped because another writer had settled them."""

    written: int
    dropped: int
    version: int


class Store:
    """The tables under ``root``, a local path or any URI that delta-rs opens."""

    def __init__(self, root: str):
        self.root = root.rstrip("/")

    def uri(self, table: str) -> str:
        """Where one of :data:`TABLES` is."""
        return f"{self.root}/{table}"

    def check(self) -> None:
        """Refuse a root that is not ours to write to; touches nothing.

        Raises:
            UsageError: if the root, or ``annotations`` in it, is another program's table, or ours
                of a newer version.
        """
        if "://" not in self.root and (odd := set(self.root) & set("%[]")):
            raise UsageError(
                f"target {self.root}: {' '.join(sorted(odd))} in its path, which delta-rs does not "
                "take; expected another name"
            )
        try:
            if DeltaTable.is_deltatable(self.root):
                raise UsageError(
                    f"target {self.root}: is a Delta table itself, expected an empty place or a "
                    "folder that pubmark made"
                )
            for name in TABLES:
                if DeltaTable.is_deltatable(self.uri(name)):
                    self._check_ours(name)
            self._check_scheme()
        except (DeltaError, OSError, ValueError) as e:
            raise UsageError(f"target {self.root}: cannot be opened: {e}") from e

    def exists(self) -> bool:
        """Whether there is an annotations table."""
        return DeltaTable.is_deltatable(self.uri("annotations"))

    def load(self, table: str = "annotations") -> DeltaTable:
        """The newest state of one of the tables.

        Raises:
            UsageError: if it is not there, or is not ours.
        """
        try:
            self._check_ours(table)
            return DeltaTable(self.uri(table))
        except (DeltaError, OSError) as e:
            raise UsageError(f"{self.root}: holds no table {table!r} of pubmark ({e})") from e

    def create(self) -> DeltaTable:
        """The annotations table, made if it is not there; likewise its companions.

        Raises:
            JobError: if they cannot be written.
        """
        for name, schema in TABLES.items():
            with self._writing(name):
                DeltaTable.create(
                    self.uri(name),
                    schema=schema,
                    mode="ignore",
                    name=f"pubmark {name}",
                    configuration={_VERSION_KEY: str(SCHEMA_VERSION)},
                    raise_if_key_not_exists=False,
                )
        return DeltaTable(self.uri("annotations"))

    def append(self, table: str, rows: Iterable[dict[str, object]]) -> None:
        """Add rows to a companion table.

        Raises:
            JobError: if it cannot be written.
        """
        with self._writing(table):
            write_deltalake(
                self.uri(table),
                pa.Table.from_pylist(list(rows), schema=TABLES[table]),
                mode="append",
                writer_properties=_WRITER,
            )

    @contextmanager
    def _writing(self, table: str) -> Iterator[None]:
        try:
            yield
        except (DeltaError, OSError) as e:
            raise JobError(f"{self.uri(table)}: cannot be written: {e}") from e

    def _check_scheme(self) -> None:
        """is_deltatable takes an unknown scheme for an empty place."""
        try:
            DeltaTable(self.uri("annotations"))
        except TableNotFoundError as e:
            if "scheme" in str(e):
                raise UsageError(f"target {self.root}: {e}") from e

    def _check_ours(self, name: str) -> None:
        found = DeltaTable(self.uri(name))
        version = found.metadata().configuration.get(_VERSION_KEY)
        if version is None:
            raise UsageError(f"target {self.uri(name)}: is a table of another program")
        if int(version) > SCHEMA_VERSION:
            raise UsageError(
                f"target {self.uri(name)}: has schema version {version}, this pubmark knows up to "
                f"{SCHEMA_VERSION}; use a newer one"
            )


class Committer:
    """Commits annotations to one table for one run.

    ``table`` is at the version that the run was planned on, and ``present`` are the PMIDs of the
    run that it holds there, sorted; None if that is not known. ``settled(stored, rows)`` gets
    :data:`KEY_COLUMNS` of stored rows, and rows to commit, and gives the PMIDs of those of
    ``rows`` that need not be written.
    """

    def __init__(
        self,
        table: DeltaTable,
        present: np.ndarray | None,
        settled: Callable[[pa.Table, pa.Table], pa.Array],
    ):
        self._table = table
        # Spares every commit a look at the table, until another writer changes it.
        self._present = present
        self._settled = settled

    def commit(self, rows: pa.Table) -> Commit:
        """Write ``rows`` (:data:`ANNOTATIONS_SCHEMA`, a PMID once) in one transaction.

        A row replaces the one with its PMID, if any.

        Raises:
            JobError: if other writers were faster twenty times in a row, or the write failed.
        """
        try:
            return self._commit(rows.sort_by("pmid"))
        except (DeltaError, OSError) as e:
            raise JobError(f"{self._table.table_uri}: commit failed: {e}") from e

    def _commit(self, rows: pa.Table) -> Commit:
        for _ in range(_MAX_TRIES):
            kept, replaces = self._unsettled(rows)
            dropped = len(rows) - len(kept)
            if not len(kept):
                return Commit(0, dropped, self._table.version())
            try:
                self._write(kept, replaces)
            except CommitFailedError as e:
                newest = self._load()
                if newest.version() == self._table.version():  # nobody was: it failed by itself
                    raise JobError(f"{newest.table_uri}: commit failed: {e}") from e
                logger.info("another writer was faster: planning the commit again")
                self._table, self._present = newest, None
                continue
            return Commit(len(kept), dropped, self._table.version())
        raise JobError(
            f"{self._table.table_uri}: other writers were faster {_MAX_TRIES} times in a row"
        )

    def remove_annotators(self, annotators: Sequence[str]) -> int:
        """Delete, in one transaction, all rows of the given annotators; says how many."""
        names = ", ".join("'" + a.replace("'", "''") + "'" for a in annotators)
        self._table = self._load()
        done = self._table.delete(
            f"annotator IN ({names})", commit_properties=self._properties(retries=_MAX_TRIES)
        )
        return int(done["num_deleted_rows"])

    def _load(self) -> DeltaTable:
        return DeltaTable(self._table.table_uri)

    def _unsettled(self, rows: pa.Table) -> tuple[pa.Table, bool]:
        """The rows still to write, and whether any of them replaces one."""
        if self._present is not None:
            return rows, bool(np.isin(rows["pmid"].to_numpy(), self._present).any())
        stored = read_keys(self._table, rows["pmid"])
        settled = self._settled(stored, rows)
        kept = rows.filter(pc.invert(pc.is_in(rows["pmid"], settled)))
        return kept, bool(pc.any(pc.is_in(kept["pmid"], stored["pmid"].combine_chunks())).as_py())

    def _properties(self, retries: int = 0) -> CommitProperties:
        # Without retries there is no silent rebase onto another writer's commit: its rows may be
        # the same as ours.
        sequence = (self._table.transaction_version(_APP_ID) or 0) + 1
        return CommitProperties(
            app_transactions=[Transaction(_APP_ID, sequence)], max_commit_retries=retries
        )

    def _write(self, rows: pa.Table, replaces: bool) -> None:
        if not replaces:
            write_deltalake(
                self._table, rows, mode="append",
                writer_properties=_WRITER, commit_properties=self._properties(),
            )  # fmt: skip
            return
        # Bounds let delta-rs pass over files whose PMIDs are all elsewhere.
        low, high = rows["pmid"][0].as_py(), rows["pmid"][-1].as_py()
        self._table.merge(
            rows,
            f"old.pmid = new.pmid AND old.pmid >= {low} AND old.pmid <= {high}",
            source_alias="new",
            target_alias="old",
            writer_properties=_WRITER,
            commit_properties=self._properties(),
        ).when_matched_update_all().when_not_matched_insert_all().execute()


def read_keys(table: DeltaTable, pmids: pa.ChunkedArray | None = None) -> pa.Table:
    """:data:`KEY_COLUMNS` of all rows, or of those with the given PMIDs."""
    condition = None
    if pmids is not None:
        bounds = pc.min_max(pmids)
        condition = (
            (pc.field("pmid") >= bounds["min"])
            & (pc.field("pmid") <= bounds["max"])
            & pc.field("pmid").isin(pmids.combine_chunks())
        )
    return open_dataset(table).to_table(columns=list(KEY_COLUMNS), filter=condition)


def open_dataset(table: DeltaTable) -> Dataset:
    """The rows of a table, for pyarrow and DuckDB to scan.

    With Arrow's own file system where it has one: delta-rs's calls back into Python from Arrow's
    threads, and a process that ended meanwhile aborted in 18 of 30 cases.
    """
    try:
        base, path = FileSystem.from_uri(table.table_uri)
    except pa.ArrowInvalid:  # az://, for one
        return table.to_pyarrow_dataset()
    return table.to_pyarrow_dataset(filesystem=SubTreeFileSystem(path, base))
