"""Small and overlapping files put together, by PMID.

Enters: a table. Leaves: new files and those that they replace, for a transaction to take over. Left
to others: that transaction (maintenance.py). delta-rs's own compaction and Z-order are not used:
they write view types, and files that overlap in PMIDs, which each update would then have to
rewrite.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.transaction import AddAction
from pyarrow.fs import FileSystem

from engine.tables.layout.files import (
    ROWS_PER_GROUP,
    StoredFile,
    between,
    filesystem,
    read_pmids,
    read_rows,
    stored_files,
    stored_schema,
)
from engine.tables.layout.rewrite import Rewrite
from engine.tables.layout.writer import ROWS_PER_FILE, discard, file_count, write_rows

_LOT_ROWS = 131_072
"""Rows of small files that are held in memory at once, some 300 MB."""


def loose_files(table: DeltaTable) -> int:
    """How many files are small, or overlap another in PMIDs: :func:`compact_once` would put them
    together with others."""
    return len(_well_laid(stored_files(table))[1])


def compact_once(table: DeltaTable) -> Rewrite | None:
    """Write the rows of small and overlapping files into files of ROWS_PER_FILE, by PMID.

    A file that is large enough and overlaps no other is rewritten only if one of those rows has a
    PMID within its range. None if there is nothing to do. As memory is bounded, there may be more
    to do after it.
    """
    fs, schema = filesystem(table), stored_schema(table)
    lying, loose = _well_laid(stored_files(table))
    if not loose or (len(loose) == 1 and not any(_overlap(loose[0], f) for f in lying)):
        return None
    small = [f for f in loose if f.rows <= ROWS_PER_GROUP]
    lot = [f for f in loose if f.rows > ROWS_PER_GROUP]
    while small and sum(f.rows for f in lot if f.rows <= ROWS_PER_GROUP) < _LOT_ROWS:
        lot.append(small.pop(0))
    pmids = np.sort(np.concatenate([read_pmids(fs, f.path) for f in lot]))
    # Small files may reach from the oldest to the newest citation: each would be read again for
    # every file that is made, so their rows are held.
    held = [read_rows(fs, f.path, schema) for f in lot if f.rows <= ROWS_PER_GROUP]
    in_memory = pa.concat_tables([schema.empty_table(), *held]).sort_by("pmid")
    wide = [f for f in lot if f.rows > ROWS_PER_GROUP]
    added: list[AddAction] = []
    removed = list(lot)
    try:
        for base, low, high in _ranges(fs, lying, pmids):
            if base is not None and base not in removed:
                removed.append(base)
            near = [
                f for f in [*wide, *([base] if base else [])] if f.low <= high and low <= f.high
            ]
            wide_rows = (read_rows(fs, f.path, schema, low, high) for f in near)
            rows = pa.concat_tables([_range(in_memory, low, high), *wide_rows])
            added += write_rows(table, rows.sort_by("pmid"))
    except BaseException:
        discard(table, added)
        raise
    return Rewrite(added, removed, pmids)


def _range(rows: pa.Table, low: int, high: int) -> pa.Table:
    """The rows, sorted by PMID, from ``low`` to ``high``."""
    pmids = rows["pmid"].to_numpy()
    start, end = np.searchsorted(pmids, low), np.searchsorted(pmids, high, "right")
    return rows.slice(start, end - start)


def _overlap(one: StoredFile, other: StoredFile) -> bool:
    return one.low <= other.high and other.low <= one.high


def _well_laid(files: list[StoredFile]) -> tuple[list[StoredFile], list[StoredFile]]:
    """Split files (by lowest PMID) into those that are large enough and do not overlap, and the
    rest."""
    lying: list[StoredFile] = []
    loose = []
    for file in files:
        if file.rows >= ROWS_PER_FILE // 2 and (not lying or file.low > lying[-1].high):
            lying.append(file)
        else:
            loose.append(file)
    return lying, loose


def _ranges(
    fs: FileSystem, lying: list[StoredFile], pmids: np.ndarray
) -> Iterator[tuple[StoredFile | None, int, int]]:
    """The files to be made so that ``pmids`` (sorted) find their place among the files that lie
    well: for each its lowest and highest PMID, and the file that it replaces, if there is one.

    PMIDs that fall between two files make files of their own if they are enough for that.
    """
    slots = np.clip(np.searchsorted([f.low for f in lying], pmids, "right") - 1, 0, None)
    for slot in np.unique(slots):
        falling = pmids[slots == slot]
        if not lying:
            yield from ((None, *ends) for ends in _cut(falling))
            continue
        base = lying[slot]
        before, after = falling[falling < base.low], falling[falling > base.high]
        inside = between(falling, base.low, base.high)
        for gap in (before, after):
            if len(gap) >= ROWS_PER_FILE // 2:
                yield from ((None, *ends) for ends in _cut(gap))
            else:
                inside = np.concatenate([inside, gap])
        if len(inside):
            merged = np.sort(np.concatenate([inside, read_pmids(fs, base.path)]))
            yield from ((base, *ends) for ends in _cut(merged))


def _cut(pmids: np.ndarray) -> Iterator[tuple[int, int]]:
    """Even pieces of about ROWS_PER_FILE: their first and last PMID."""
    for piece in np.array_split(pmids, file_count(len(pmids))):
        yield int(piece[0]), int(piece[-1])
