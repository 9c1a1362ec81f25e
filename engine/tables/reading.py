"""A table's rows, to be scanned by pyarrow and DuckDB, and the keys of its rows.

Enters: a version of a table. Leaves: a dataset, which reads only the columns and row groups that a
scan asks for, and tables of keys. Left to others: rows with their texts (rows.py).
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from pyarrow.dataset import Dataset, FileSystemDataset

from engine.tables.layout.files import among, filesystem, stored_files, with_pmids
from schemas.annotations import ANNOTATIONS_SCHEMA

KEY_COLUMNS = ("pmid", "text_digest", "annotator", "status", "metadata_digest", "source")
"""What decides whether a stored row is up to date: which text and metadata it was made of, by which
annotator, with what outcome, from which file."""

_MANY = 100_000
"""PMIDs. The rows of more than so many are looked for batch by batch, see :func:`_read_many`."""


def read_keys(
    table: DeltaTable, pmids: np.ndarray | None = None, columns: Iterable[str] = KEY_COLUMNS
) -> pa.Table:
    """:data:`KEY_COLUMNS` (or others) of all rows, or of those with the given PMIDs (sorted).

    The rows come in no order. A column that a table of an older version does not have is null.
    """
    data = open_dataset(table)
    known = [n for n in columns if n in data.schema.names]
    if pmids is None:
        found = data.to_table(columns=known)
    elif not len(pmids):
        found = data.schema.empty_table().select(known)
    elif len(pmids) <= _MANY:
        found = data.to_table(columns=known, filter=with_pmids(pmids))
    else:  # Arrow would hash all of them for each file
        found = _read_many(data, np.asarray(pmids), known)
    for name in columns:
        if name not in known:
            kind = ANNOTATIONS_SCHEMA.field(name).type
            found = found.append_column(name, pa.nulls(len(found), kind))
    return found


def _read_many(data: Dataset, pmids: np.ndarray, columns: list[str]) -> pa.Table:
    """The rows with the given PMIDs; of the others only a batch is in memory at a time."""
    within = (pc.field("pmid") >= int(pmids[0])) & (pc.field("pmid") <= int(pmids[-1]))
    batches = []
    for batch in data.to_batches(columns=list({*columns, "pmid"}), filter=within):
        held = pa.array(among(batch["pmid"].to_numpy(), pmids))
        batches.append(batch.filter(held).select(columns))
    schema = data.schema.empty_table().select(columns).schema
    return pa.Table.from_batches(batches, schema)


def annotators_of(table: DeltaTable) -> set[str]:
    """The fingerprints of the annotators that have rows in the table.

    If each file's statistics say that all its rows are of one annotator, no file is read.
    """
    files = pa.table(table.get_add_actions(flatten=True))
    if {"min.annotator", "max.annotator"} <= set(files.column_names):
        low, high = files["min.annotator"], files["max.annotator"]
        if pc.all(pc.fill_null(pc.equal(low, high), False)).as_py():
            return set(low.unique().to_pylist())
    return set(pc.unique(read_keys(table, columns=["annotator"])["annotator"]).to_pylist())


def open_dataset(table: DeltaTable) -> Dataset:
    """The rows of a table, for pyarrow and DuckDB to scan, with another program's columns.

    delta-rs's own dataset takes a bound that a file does not state for null, and a filter on such
    a column (``status = 'failed'``) then finds nothing in it: here only PMIDs are bounded.
    """
    whole = table.to_pyarrow_dataset(filesystem=filesystem(table))
    bounds = np.iinfo(np.int64)
    fragments = []
    for file in stored_files(table):
        known = None
        if "pmid" in whole.schema.names and (file.low, file.high) != (bounds.min, bounds.max):
            known = (pc.field("pmid") >= file.low) & (pc.field("pmid") <= file.high)
        fragments.append(
            whole.format.make_fragment(
                file.path, filesystem=whole.filesystem, partition_expression=known
            )
        )
    return FileSystemDataset(fragments, whole.schema, whole.format, whole.filesystem)
