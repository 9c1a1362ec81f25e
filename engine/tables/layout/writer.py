"""New Parquet files, and the actions that put them into a table.

Files are written here and not by delta-rs: its merge stores Arrow's view types in them, which plain
``pandas.read_parquet`` does not read, and sorts nothing.
"""

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.transaction import AddAction
from pyarrow.fs import FileSystem

from engine.tables.layout.files import ROWS_PER_GROUP, as_stored, filesystem, stored_schema
from engine.tables.layout.leftovers import new_name

ROWS_PER_FILE = 65_536
"""Some 55 MB: 40 million citations are about 600 files."""

# Of zstd: a core reads and writes 82,000 rows/s, of 702 bytes each; at level 3 74,000, of 677; at
# level 1 89,000, of 842.
_LEVEL = 2

# Columns with a dictionary. The values of the others are all different, or nearly: to look for
# repetitions in them takes a third of the time.
_REPETITIVE = [
    "version", "mentions.list.element.text", "mentions.list.element.entity_type",
    "mentions.list.element.grade", "mentions.list.element.identifier", "status", "error",
    "annotator", "run_id", "annotated_at", "source", "pub_year", "journal", "language",
    "publication_types.list.element",
]  # fmt: skip


# Columns whose lowest and highest value a row group states: those that queries filter by.
_BOUNDED = ["pmid", "status", "annotator", "run_id", "annotated_at", "source", "pub_year",
            "journal", "language"]  # fmt: skip

_GROUP_BYTES = 16 << 20

# The same of a companion table, for the table's log.
_BOUNDED_SMALL = ("pmid", "annotator", "run_id", "name")


def write_rows(table: DeltaTable, rows: pa.Table) -> list[AddAction]:
    """Write new files of ``rows`` (ANNOTATIONS_SCHEMA or the table's own, by PMID)."""
    fs, schema = filesystem(table), stored_schema(table)
    added: list[AddAction] = []
    try:
        borders = np.linspace(0, len(rows), file_count(len(rows)) + 1).astype(int)
        for start, end in pairwise(borders):
            with FileWriter(fs, schema) as writer:
                writer.write(rows.slice(start, end - start))
            added += writer.action()
    except BaseException:
        discard(table, added)
        raise
    return added


def write_small(table: DeltaTable, rows: pa.Table) -> AddAction:
    """Write one new file of ``rows`` of any table.

    Not by delta-rs, whose writer panics, on stderr, where a disk is full or read-only.
    """
    fs, path = filesystem(table), new_name()
    try:
        with fs.open_output_stream(path) as stream:
            pq.write_table(rows, stream, compression="zstd", row_group_size=_group_rows(rows))
    except BaseException:
        with suppress(OSError):
            fs.delete_file(path)
        raise
    ends = {n: pc.min_max(rows[n]).as_py() for n in _BOUNDED_SMALL if n in rows.column_names}
    stats = {
        "numRecords": len(rows),
        "minValues": {n: e["min"] for n, e in ends.items() if e["min"] is not None},
        "maxValues": {n: e["max"] for n, e in ends.items() if e["max"] is not None},
        "nullCount": {n: rows[n].null_count for n in ends},
    }
    size = fs.get_file_info(path).size
    return AddAction(path, size, {}, int(time.time() * 1000), True, json.dumps(stats))


def _group_rows(rows: pa.Table) -> int:
    """How many rows make a row group of at most some 16 MB: a reader holds one at a time."""
    return max(1, round(_GROUP_BYTES / max(rows.nbytes, 1) * len(rows)))


def discard(table: DeltaTable, added: Sequence[AddAction]) -> None:
    """Delete files that no transaction took over."""
    fs = filesystem(table)
    for action in added:
        with suppress(OSError):  # `pubmark vacuum` finds it
            fs.delete_file(action.path)


class FileWriter:
    """One new file of ``schema``. Its action is there once it is closed; a file without rows is
    deleted."""

    def __init__(self, fs: FileSystem, schema: pa.Schema):
        self._fs, self._path, self._schema = fs, new_name(), schema
        self._rows = 0
        self._bounds: dict[str, list[Any]] = {}

    def __enter__(self) -> "FileWriter":
        self._stream = self._fs.open_output_stream(self._path)
        self._parquet = pq.ParquetWriter(
            self._stream, self._schema, compression="zstd", compression_level=_LEVEL,
            use_dictionary=_REPETITIVE, write_statistics=_BOUNDED,
        )  # fmt: skip
        return self

    def write(self, rows: pa.Table) -> None:
        """Add rows (ANNOTATIONS_SCHEMA or the file's own, by PMID)."""
        if not len(rows):
            return
        stored = as_stored(rows, self._schema)
        self._parquet.write_table(stored, row_group_size=ROWS_PER_GROUP)
        self._rows += len(stored)
        for name in ("pmid", "annotator"):
            ends = pc.min_max(stored[name]).as_py()
            self._bounds.setdefault(name, []).extend(v for v in ends.values() if v is not None)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        whole = False
        try:
            self._parquet.close()
            self._stream.close()
            whole = kind is None and self._rows > 0
        finally:  # a full disk says so here, too
            if not whole:
                with suppress(OSError):
                    self._stream.close()
                with suppress(OSError):
                    self._fs.delete_file(self._path)

    def action(self) -> list[AddAction]:
        """What puts the file into the table."""
        if not self._rows:
            return []
        bounds = {n: v for n, v in self._bounds.items() if v}
        stats = {
            "numRecords": self._rows,
            "minValues": {n: min(v) for n, v in bounds.items()},
            "maxValues": {n: max(v) for n, v in bounds.items()},
            "nullCount": {"pmid": 0},
        }
        size = self._fs.get_file_info(self._path).size
        now = int(time.time() * 1000)
        return [AddAction(self._path, size, {}, now, True, json.dumps(stats))]


def file_count(rows: int) -> int:
    """Into how many files so many rows are written."""
    return max(1, round(rows / ROWS_PER_FILE))
