"""Small files of a companion table put together.

Enters: a companion table, to which each run adds a file or more. Leaves: one new file and those
that it replaces, for a transaction to take over. Left to others: that transaction (maintenance.py),
and ``annotations``, whose files lie by PMID (compaction.py).
"""

import pyarrow as pa
from deltalake import DeltaTable

from engine.tables.layout.files import NO_PMIDS, filesystem, read_rows, stored_files
from engine.tables.layout.rewrite import Rewrite
from engine.tables.layout.writer import write_small

_LARGE_BYTES = 32 << 20
"""A file of so many bytes is left alone; twice as many, at most, are made into one. Lists of PMIDs,
in ``files``, take four times as much in memory."""


def gather_once(table: DeltaTable) -> Rewrite | None:
    """Write the rows of small files into one, in no order; None if there are not two of them.

    There may be more to do after it.
    """
    lot, size = [], 0
    for file in stored_files(table):
        if file.size < _LARGE_BYTES and size < _LARGE_BYTES:
            lot.append(file)
            size += file.size
    if len(lot) < 2:
        return None
    fs, schema = filesystem(table), pa.schema(table.schema().to_arrow())
    rows = pa.concat_tables(read_rows(fs, f.path, schema) for f in lot)
    return Rewrite([write_small(table, rows)], lot, NO_PMIDS)
