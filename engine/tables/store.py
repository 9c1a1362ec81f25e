"""The Delta tables under one root: where they are, whose they are; made, read, appended to.

Enters: a root, local or at a URI. Leaves: tables of ours at their newest state, and rows appended
to the companions. Left to others: changing ``annotations`` (committer.py), how it lies in files
(layout/), and tidying up (maintenance.py).
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import DeltaError, TableNotFoundError
from pyarrow.dataset import Dataset

from engine.tables.compatible import check_readable, check_writable
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
from schemas.errors import JobError, UsageError, reason

TABLES = {
    "annotators": ANNOTATORS_SCHEMA,
    "runs": RUNS_SCHEMA,
    "annotations": ANNOTATIONS_SCHEMA,
}
"""Made in this order before the first commit. ``annotations``, by which the tables are known to be
there, comes last: what a run that is killed in between has made is not taken for them."""

LATER_TABLES = {
    "files": FILES_SCHEMA,
    "failures": FAILURES_SCHEMA,
    "rollouts": ROLLOUTS_SCHEMA,
    "staged": ANNOTATIONS_SCHEMA,
}
"""Made when there is something to put in; until then a missing one is an empty one. ``staged``:
see staging.py."""

ALL_TABLES = TABLES | LATER_TABLES


_VERSION_KEY = "pubmark.schema_version"


class Store:
    """The tables under ``root``, a local path or any URI that delta-rs opens; see root.py."""

    def __init__(self, root: str):
        self.root = local_path(root).rstrip("/") or root

    def uri(self, table: str) -> str:
        """Where one of :data:`ALL_TABLES` is.

        Raises:
            UsageError: if delta-rs does not take a root of that name.
        """
        return f"{location(self.root).rstrip('/')}/{table}"

    def check(self) -> None:
        """Refuse a root that is not ours to write to; touches nothing.

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
            for name in ALL_TABLES:
                if DeltaTable.is_deltatable(self.uri(name)):
                    found = self._check_ours(name)
                    newest = _version(found) == SCHEMA_VERSION
                    check_writable(found, ALL_TABLES[name], newest)
            self._check_scheme()
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
        """The newest state of one of the tables.

        Raises:
            UsageError: if it is not there, or is not ours.
            JobError: if it cannot be read.
        """
        try:
            return self._check_ours(table)
        except TableNotFoundError as e:
            raise UsageError(f"{self.root}: holds no table {table!r} of pubmark ({e})") from e
        except (DeltaError, OSError) as e:
            raise JobError(f"{self.uri(table)}: cannot be read: {reason(e)}") from e

    def dataset(self, table: str = "annotations") -> Dataset:
        """The rows of one of the tables as they are now, for pyarrow and DuckDB to scan."""
        return open_dataset(self.load(table))

    def read(self, table: str, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """The rows of a companion table, in no order. One that is missing is an empty one."""
        if not self.has(table):
            return []
        chosen = None if columns is None else list(columns)
        rows: list[dict[str, Any]] = self.dataset(table).to_table(columns=chosen).to_pylist()
        return rows

    def create(self) -> DeltaTable:
        """The annotations table, made if it is not there; likewise its companions.

        Tables of an older schema version get the columns that they lack.

        Raises:
            JobError: if they cannot be written.
        """
        for name in TABLES:
            self._make(name)
        return DeltaTable(self.uri("annotations"))

    def append(self, table: str, rows: pa.Table | Iterable[dict[str, object]]) -> None:
        """Add rows to a companion table, made if it is not there.

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
            # Where the transaction fails, the file stays, since it may have been made and only the
            # answer lost; `remove_leftovers` tells.
            known.create_write_transaction(
                [write_small(known, stored)], mode="append", schema=known.schema()
            )

    def _make(self, name: str) -> None:
        schema = ALL_TABLES[name]
        with self.writing(name):
            DeltaTable.create(
                self.uri(name),
                schema=schema,
                mode="ignore",
                name=f"pubmark {name}",
                configuration={_VERSION_KEY: str(SCHEMA_VERSION)},
                raise_if_key_not_exists=False,
            )
            table = DeltaTable(self.uri(name))
            if (_version(table) or 0) < SCHEMA_VERSION:
                known = {f.name for f in table.schema().fields}
                wanted = DeltaSchema.from_arrow(schema).fields
                if missing := [f for f in wanted if f.name not in known]:
                    table.alter.add_columns(missing)
                table.alter.set_table_properties(
                    {_VERSION_KEY: str(SCHEMA_VERSION)}, raise_if_not_exists=False
                )

    @contextmanager
    def writing(self, table: str) -> Iterator[None]:
        """Errors of storage within the block are a JobError that names the table."""
        try:
            yield
        except (DeltaError, OSError) as e:
            raise JobError(f"{self.uri(table)}: cannot be written: {reason(e)}") from e

    def _check_scheme(self) -> None:
        """is_deltatable takes an unknown scheme for an empty place."""
        try:
            DeltaTable(self.uri("annotations"))
        except TableNotFoundError as e:
            if "scheme" in str(e):
                raise UsageError(f"target {self.root}: {e}") from e

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
