"""How the annotations table lies in files, and how files are made and made anew.

Enters: a Delta table and what is to change in it. Leaves: Parquet files beside the table's own, and
the actions that put them into it. Left to others: the transaction, without which none of it counts.

Rows lie by PMID: a file is sorted, says its lowest and highest PMID, and has few neighbours that
reach into its range. So what touches recent PMIDs makes anew only their files, and what touches
PMIDs everywhere is one pass over the table, file by file, a batch of rows at a time.

A column that another program has added travels with the rows that are not changed, and is null in
rows that are written anew.

Files are written here and not by delta-rs: its merge stores Arrow's view types in them, which plain
``pandas.read_parquet`` does not read, and sorts nothing.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.fs import DeltaStorageHandler
from pyarrow.dataset import dataset
from pyarrow.fs import FileSystem, PyFileSystem, SubTreeFileSystem

from schemas.annotations import ANNOTATIONS_SCHEMA
from schemas.errors import JobError, reason

ROWS_PER_GROUP = 16_384
"""Rows that are in memory at once while a file is made anew: some 40 MB."""

STORED_SCHEMA = pa.schema(
    # Delta has one binary type.
    [f.with_type(pa.binary()) if f.name == "text_digest" else f for f in ANNOTATIONS_SCHEMA]
)

NO_PMIDS = np.array([], np.int64)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the table: its path in it, and the lowest and highest PMID in it."""

    path: str
    size: int
    rows: int
    low: int
    high: int


def filesystem(table: DeltaTable) -> FileSystem:
    """The folder of a table, for pyarrow.

    Arrow's own file system where it has one: delta-rs's calls back into Python from Arrow's
    threads, and a process that ended meanwhile aborted in 18 of 30 cases.
    """
    try:
        base, path = FileSystem.from_uri(table.table_uri)
    except pa.ArrowInvalid:  # az://, for one
        return PyFileSystem(DeltaStorageHandler.from_table(table._table))
    return SubTreeFileSystem(path, base)


def stored_files(table: DeltaTable) -> list[StoredFile]:
    """The files that make up the table, by lowest PMID."""
    found = pa.table(table.get_add_actions(flatten=True))
    if not len(found):
        return []
    columns = [
        found[name].to_pylist() if name in found.column_names else [None] * len(found)
        for name in ("path", "size_bytes", "num_records", "min.pmid", "max.pmid")
    ]
    bounds = np.iinfo(np.int64)  # of a file of which nothing is known
    files = [
        StoredFile(
            path, size, rows or 0,
            bounds.min if low is None else low, bounds.max if high is None else high,
        )
        for path, size, rows, low, high in zip(*columns, strict=True)
    ]  # fmt: skip
    return sorted(files, key=lambda f: (f.low, f.high))


def touched(files: Iterable[StoredFile], pmids: np.ndarray) -> list[StoredFile]:
    """The files whose range holds one of ``pmids`` (sorted)."""
    return [f for f in files if len(between(pmids, f.low, f.high))]


def stored_schema(table: DeltaTable) -> pa.Schema:
    """What rows of this table have: STORED_SCHEMA, then the columns that another program added."""
    columns = pa.schema(table.schema().to_arrow())
    return pa.schema([*STORED_SCHEMA, *(f for f in columns if f.name not in STORED_SCHEMA.names)])


def as_stored(rows: pa.Table, schema: pa.Schema = STORED_SCHEMA) -> pa.Table:
    """``rows`` as ``schema``; columns that they do not have are null."""
    columns = [
        rows[f.name].cast(f.type) if f.name in rows.column_names else pa.nulls(len(rows), f.type)
        for f in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def with_pmids(pmids: np.ndarray) -> pc.Expression:
    """A filter for rows with one of ``pmids`` (sorted, at least one), to scan with."""
    within = (pc.field("pmid") >= int(pmids[0])) & (pc.field("pmid") <= int(pmids[-1]))
    return within & pc.field("pmid").isin(pa.array(pmids))


def read_batches(fs: FileSystem, path: str, schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of a file in order, ROWS_PER_GROUP at a time, as ``schema``.

    Raises:
        JobError: if it has a column that does not fit the schema.
    """
    with fs.open_input_file(path) as file:
        parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
        for batch in parquet.iter_batches(ROWS_PER_GROUP, use_threads=False):
            with _fitting(path):
                rows = as_stored(pa.Table.from_batches([batch]), schema)
            yield rows


def read_rows(
    fs: FileSystem,
    path: str,
    schema: pa.Schema,
    low: int | None = None,
    high: int | None = None,
) -> pa.Table:
    """The rows of a file, or those with a PMID from ``low`` to ``high``, as ``schema``.

    Raises:
        JobError: if it has a column that does not fit the schema.
    """
    condition = None
    if low is not None and high is not None:
        condition = (pc.field("pmid") >= low) & (pc.field("pmid") <= high)
    # With the schema, as Arrow does not take rows out of the view types that delta-rs writes.
    data = dataset(path, schema=schema, format="parquet", filesystem=fs)
    with _fitting(path):
        return as_stored(data.to_table(filter=condition), schema)


@contextmanager
def _fitting(path: str) -> Iterator[None]:
    """Another program may have given a file other types than it gave the table."""
    try:
        yield
    except pa.ArrowException as e:
        raise JobError(f"{path}: its columns are not of the table's types: {reason(e)}") from e


def read_pmids(fs: FileSystem, path: str) -> np.ndarray:
    """The PMIDs of a file, in its order."""
    with fs.open_input_file(path) as file:
        return pq.ParquetFile(file).read(["pmid"])["pmid"].to_numpy()


def between(pmids: np.ndarray, low: int, high: int) -> np.ndarray:
    """Those of ``pmids`` (sorted) from ``low`` to ``high``."""
    return pmids[np.searchsorted(pmids, low) : np.searchsorted(pmids, high, "right")]


def distinct(*pmids: np.ndarray) -> np.ndarray:
    """The different PMIDs of all arrays, sorted.

    Sorted in place, since np.unique makes a hash table: a gigabyte and more for 40 million.
    """
    every = np.concatenate([NO_PMIDS, *pmids])
    every.sort()
    first = np.ones(len(every), bool)
    np.not_equal(every[1:], every[:-1], out=first[1:])
    return every if first.all() else every[first]


def among(pmids: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Which of ``pmids`` are in ``held``, which is sorted: a mask.

    Each is looked up, so that 30,000 among 40 million take milliseconds; np.isin and
    np.intersect1d sort both together, which takes seconds.
    """
    if not len(held):
        return np.zeros(len(pmids), bool)
    found: np.ndarray = held[np.minimum(np.searchsorted(held, pmids), len(held) - 1)] == pmids
    return found
