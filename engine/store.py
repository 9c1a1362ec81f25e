"""The Delta tables under one root: annotations, annotators, runs.

Enters: finished rows. Leaves: committed rows. A commit is the only record of progress. It is
atomic, and conditional on the state that it was planned on: if another writer came first, the
table is loaded again, what has become settled is dropped, and the commit is tried once more.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

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
        try:
            if DeltaTable.is_deltatable(self.root):
                raise UsageError(
                    f"target {self.root}: is a Delta table itself, expected an empty place or a "
                    "folder that pubmark made"
                )
            for name in TABLES:
                if DeltaTable.is_deltatable(self.uri(name)):
                    self._check_ours(name)
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
        """The annotations table, made if it is not there; likewise its companions."""
        for name, schema in TABLES.items():
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
        """Add rows to a companion table."""
        schema = TABLES[table]
        write_deltalake(
            self.uri(table),
            pa.Table.from_pylist(list(rows), schema=schema),
            mode="append",
            writer_properties=_WRITER,
        )

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

    ``is_settled(keys)`` gets :data:`KEY_COLUMNS` of rows in the table that have the PMIDs of a
    batch, and says for each whether it needs no replacing.
    """

    def __init__(self, table: DeltaTable, is_settled: Callable[[pa.Table], pa.ChunkedArray]):
        self._table = table
        self._is_settled = is_settled
        self._present: np.ndarray | None = None

    def expect(self, present: np.ndarray) -> None:
        """Say which PMIDs of this run the table held at the version that was planned on.

        Spares every commit a look at the table until another writer changes it.
        """
        self._present = present

    def commit(self, rows: pa.Table) -> Commit:
        """Write ``rows`` (:data:`ANNOTATIONS_SCHEMA`, a PMID once) in one transaction.

        A row replaces the one with its PMID, if any.

        Raises:
            JobError: if other writers were faster twenty times in a row, or the write failed.
        """
        rows = rows.sort_by("pmid")
        for attempt in range(_MAX_TRIES):
            if attempt:
                self._table = DeltaTable(self._table.table_uri)
                self._present = None
            kept, replaces = self._unsettled(rows)
            dropped = len(rows) - len(kept)
            if not len(kept):
                return Commit(0, dropped, self._table.version())
            try:
                self._write(kept, replaces)
            except CommitFailedError:
                logger.info("another writer was faster: loading the table again")
                continue
            except (DeltaError, OSError) as e:
                raise JobError(f"{self._table.table_uri}: commit failed: {e}") from e
            return Commit(len(kept), dropped, self._table.version())
        raise JobError(
            f"{self._table.table_uri}: other writers were faster {_MAX_TRIES} times in a row"
        )

    def _unsettled(self, rows: pa.Table) -> tuple[pa.Table, bool]:
        """The rows still to write, and whether any of them replaces one."""
        pmids = rows["pmid"].to_numpy()
        if self._present is not None:
            return rows, bool(np.isin(pmids, self._present).any())
        keys = read_keys(self._table, rows["pmid"])
        settled = keys.filter(self._is_settled(keys))["pmid"]
        kept = rows.filter(pc.invert(pc.is_in(rows["pmid"], settled.combine_chunks())))
        return kept, len(keys) > len(settled)

    def _write(self, rows: pa.Table, replaces: bool) -> None:
        sequence = (self._table.transaction_version(_APP_ID) or 0) + 1
        properties = CommitProperties(
            app_transactions=[Transaction(_APP_ID, sequence)],
            # No silent rebase onto another writer's commit: its rows may be the same as ours.
            max_commit_retries=0,
        )
        if not replaces:
            write_deltalake(
                self._table, rows, mode="append",
                writer_properties=_WRITER, commit_properties=properties,
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
            commit_properties=properties,
        ).when_matched_update_all().when_not_matched_insert_all().execute()


def read_keys(table: DeltaTable, pmids: pa.ChunkedArray | None = None) -> pa.Table:
    """:data:`KEY_COLUMNS` of all rows, or of those with the given PMIDs."""
    dataset = table.to_pyarrow_dataset()
    condition = None
    if pmids is not None:
        bounds = pc.min_max(pmids)
        condition = (
            (pc.field("pmid") >= bounds["min"])
            & (pc.field("pmid") <= bounds["max"])
            & pc.field("pmid").isin(pmids.combine_chunks())
        )
    return dataset.to_table(columns=list(KEY_COLUMNS), filter=condition)
