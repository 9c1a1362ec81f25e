"""The Delta tables under one root: opened and checked, made, read, appended to.

Enters: a root, local or at a URI. Leaves: our tables at their newest version, and rows appended to
the companion tables. Left to others: changing ``annotations`` (committer.py), its Parquet files
(layout/), and maintenance (maintenance.py).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import DeltaError, TableNotFoundError
from pyarrow.dataset import Dataset

from engine.tables.compatible import check_readable, check_writable
from engine.tables.exclusive import check_exclusive
from engine.tables.layout.files import as_stored
from engine.tables.layout.writer import write_small
from engine.tables.reading import open_dataset
from engine.tables.root import local_path, location
from schemas.annotations import (
    ANNOTATIONS_SCHEMA,
    ANNOTATORS_SCHEMA,
    FAILURES_SCHEMA,
    FILES_SCHEMA,
    ROLLOUTS_SCHEMA,
    RUNS_SCHEMA,
    SCHEMA_VERSION,
)
from schemas.credentials import has_credentials
from schemas.errors import JobError, UsageError, reason

TABLES = {
    "annotators": ANNOTATORS_SCHEMA,
    "runs": RUNS_SCHEMA,
    "annotations": ANNOTATIONS_SCHEMA,
}
"""Made in this order before the first commit. ``annotations`` comes last, since its presence says
that the tables are there: a run that is killed in between leaves none that seem complete."""

LATER_TABLES = {
    "files": FILES_SCHEMA,
    "failures": FAILURES_SCHEMA,
    "rollouts": ROLLOUTS_SCHEMA,
    "staged": ANNOTATIONS_SCHEMA,
}
"""Made when the first row is appended; one that is missing counts as empty. For ``staged`` see
staging.py."""

ALL_TABLES = TABLES | LATER_TABLES


_VERSION_KEY = "pubmark.schema_version"
_LOG_KEY = "delta.checkpointInterval"
_LOG_COMMITS = 5
"""Commits between two checkpoints of the log. Who opens a table reads the last checkpoint and each
commit after it, a request each on an object store: up to a hundred with delta-rs's own interval."""


class Store:
    """The tables under ``root``, a local path or any URI that delta-rs opens; see root.py.

    Raises:
        UsageError: if ``root`` carries credentials. delta-rs takes none from a URI, and writes the
            URI of a table that it makes into its log.
    """

    def __init__(self, root: str):
        if has_credentials(root):
            raise UsageError(
                f"target {root}: has credentials in its URI, which tables do not take; expected "
                "them in the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                "AZURE_STORAGE_SAS_TOKEN, GOOGLE_APPLICATION_CREDENTIALS, …)"
            )
        self.root = local_path(root).rstrip("/") or root

    def uri(self, table: str) -> str:
        """Where one of :data:`ALL_TABLES` is.

        Raises:
            UsageError: if delta-rs does not take a root of that name.
        """
        return f"{location(self.root).rstrip('/')}/{table}"

    def check(self) -> DeltaTable | None:
        """Refuse a root that we cannot or must not write to, without changing it. Gives the newest
        version of ``annotations``, None if there is none yet.

        Raises:
            UsageError: if the root, or a table in it, is another program's, or ours of a newer
                version, or changed by another program so that we cannot write to it.
        """
        try:
            if DeltaTable.is_deltatable(location(self.root)):
                raise UsageError(
                    f"target {self.root}: is a Delta table itself, expected an empty place or a "
                    "folder that pubmark made"
                )
            tables = {name: self._open(name) for name in ALL_TABLES}
            for name, found in tables.items():
                if found:
                    newest = _version(found) == SCHEMA_VERSION
                    check_writable(found, ALL_TABLES[name], newest)
            return tables["annotations"]
        except (DeltaError, OSError, ValueError) as e:
            raise UsageError(f"target {self.root}: cannot be opened: {reason(e)}") from e

    def require(self) -> None:
        """Make sure that there is an annotations table.

        Raises:
            UsageError: if there is none.
        """
        if not self.exists():
            raise UsageError(f"{self.root}: holds no tables of pubmark")

    def exists(self) -> bool:
        """Whether there is an annotations table."""
        return self.has("annotations")

    def has(self, table: str) -> bool:
        """Whether there is such a table."""
        return DeltaTable.is_deltatable(self.uri(table))

    def load(self, table: str = "annotations") -> DeltaTable:
        """One of the tables, at its newest version.

        Raises:
            UsageError: if it is not there, or is not ours.
            JobError: if it cannot be read.
        """
        if (newest := self.find(table)) is None:
            raise UsageError(f"{self.root}: holds no table {table!r} of pubmark")
        return newest

    def find(self, table: str = "annotations") -> DeltaTable | None:
        """One of the tables, at its newest version; None if it is not there.

        Raises:
            UsageError: if it is not ours.
            JobError: if it cannot be read.
        """
        try:
            return self._open(table)
        except (DeltaError, OSError) as e:
            raise JobError(f"{self.uri(table)}: cannot be read: {reason(e)}") from e

    def dataset(self, table: str = "annotations") -> Dataset:
        """The rows of one of the tables as they are now, for pyarrow and DuckDB to scan."""
        return open_dataset(self.load(table))

    def read(self, table: str, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """The rows of a companion table, in no order; none if the table is missing."""
        if (newest := self.find(table)) is None:
            return []
        chosen = None if columns is None else list(columns)
        rows: list[dict[str, Any]] = open_dataset(newest).to_table(columns=chosen).to_pylist()
        return rows

    def create(self) -> DeltaTable:
        """Make the annotations table and its companions where they are missing; gives the former.

        Tables of an older schema version get the columns that were added since.

        Raises:
            JobError: if they cannot be written.
        """
        for name in TABLES:
            self._make(name)
        return DeltaTable(self.uri("annotations"))

    def append(
        self,
        table: str,
        rows: pa.Table | Iterable[dict[str, object]],
        notes: Mapping[str, str] | None = None,
    ) -> None:
        """Add rows to a companion table, made if it is not there; ``notes`` go into its log.

        Raises:
            JobError: if it cannot be written.
        """
        schema = ALL_TABLES[table]
        if not isinstance(rows, pa.Table):
            rows = pa.Table.from_pylist(list(rows), schema=schema)
        if table in LATER_TABLES:
            self._make(table)
        with self.writing(table):
            if not len(rows):
                return
            known = DeltaTable(self.uri(table))
            stored = as_stored(rows) if schema is ANNOTATIONS_SCHEMA else rows
            # If this fails, the new file is kept: the transaction may have been committed and only
            # the answer lost. `remove_leftovers` finds out later.
            known.create_write_transaction(
                [write_small(known, stored)],
                mode="append",
                schema=known.schema(),
                commit_properties=CommitProperties(custom_metadata=dict(notes)) if notes else None,
            )

    def _make(self, name: str) -> None:
        schema = ALL_TABLES[name]
        properties = {_VERSION_KEY: str(SCHEMA_VERSION), _LOG_KEY: str(_LOG_COMMITS)}
        with self.writing(name):
            try:
                table = DeltaTable(self.uri(name))
            except TableNotFoundError:
                DeltaTable.create(
                    self.uri(name),
                    schema=schema,
                    mode="ignore",  # another run may have made it just now
                    name=f"pubmark {name}",
                    configuration=properties,
                    raise_if_key_not_exists=False,
                )
                table = DeltaTable(self.uri(name))
            if (_version(table) or 0) < SCHEMA_VERSION:
                known = {f.name for f in table.schema().fields}
                wanted = DeltaSchema.from_arrow(schema).fields
                if missing := [f for f in wanted if f.name not in known]:
                    table.alter.add_columns(missing)
                table.alter.set_table_properties(properties, raise_if_not_exists=False)

    @contextmanager
    def writing(self, table: str) -> Iterator[None]:
        """Errors of storage within the block are a JobError that names the table.

        Raises:
            JobError: also if this run may write no more (exclusive.py).
        """
        check_exclusive()
        try:
            yield
        except (DeltaError, OSError) as e:
            raise JobError(f"{self.uri(table)}: cannot be written: {reason(e)}") from e

    def _open(self, name: str) -> DeltaTable | None:
        try:
            return self._check_ours(name)
        except TableNotFoundError as e:
            if "scheme" in str(e):  # of the URI, which no store of ours knows
                raise UsageError(f"target {self.root}: {e}") from e
            return None

    def _check_ours(self, name: str) -> DeltaTable:
        found = DeltaTable(self.uri(name))
        version = _version(found)
        if version is None:
            raise UsageError(f"target {self.uri(name)}: is a table of another program")
        if version > SCHEMA_VERSION:
            raise UsageError(
                f"target {self.uri(name)}: has schema version {version}, this pubmark knows up to "
                f"{SCHEMA_VERSION}; use a newer one"
            )
        check_readable(found)
        return found


def _version(table: DeltaTable) -> int | None:
    """The schema version of a table of ours; None if it is not ours."""
    version = table.metadata().configuration.get(_VERSION_KEY)
    return None if version is None else int(version)
