"""Files made anew where rows in them change.

Enters: a table and the changes to its rows. Leaves: new files and those that they replace, for a
transaction to take over. Left to others: that transaction (transactions.py). A file is read and
written a row group at a time, several files at once.
"""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.transaction import AddAction, RemoveAction
from pyarrow.dataset import Dataset
from pyarrow.fs import FileSystem

from engine.tables.layout.files import (
    NO_PMIDS,
    STORED_SCHEMA,
    StoredFile,
    as_stored,
    between,
    filesystem,
    read_batches,
    read_pmids,
    stored_files,
    stored_schema,
    touched,
    with_pmids,
)
from engine.tables.layout.writer import FileWriter, discard
from schemas.annotations import METADATA_COLUMNS

_THREADS = min(8, os.cpu_count() or 1)
"""Files that are made anew at once; each holds a row group or two, some 80 MB."""

_FEW = 64
"""Rows. If no more of a row group change, the rows in between are passed on without a copy."""


@dataclass(frozen=True)
class Changes:
    """What is to change in rows that the table holds, by PMID; all PMIDs sorted.

    ``rows`` (ANNOTATIONS_SCHEMA) holds, among others, whole rows for ``replaced``; ``patches``, a
    row for each PMID once, new METADATA_COLUMNS; ``gone`` are removed. A PMID that stands in more
    than one of these is removed rather than replaced, and replaced rather than patched.
    """

    rows: Sequence[Dataset] = ()
    replaced: np.ndarray = field(default_factory=lambda: NO_PMIDS)
    patches: pa.Table | None = None
    gone: np.ndarray = field(default_factory=lambda: NO_PMIDS)

    def pmids(self) -> np.ndarray:
        """All that are to change, sorted."""
        return np.union1d(np.union1d(self.replaced, self.patched()), self.gone)

    def patched(self) -> np.ndarray:
        """The PMIDs of ``patches``."""
        return NO_PMIDS if self.patches is None else self.patches["pmid"].to_numpy()


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Files written, not yet of the table, and files that they replace. ``found`` are the PMIDs
    that were to change and that the files read do hold."""

    added: list[AddAction]
    removed: list[StoredFile]
    found: np.ndarray

    def actions(self, data_change: bool) -> list[AddAction | RemoveAction]:
        """What a transaction does to take it over."""
        now = int(time.time() * 1000)
        return [
            *(replace(a, data_change=data_change) for a in self.added),
            *(RemoveAction(f.path, data_change, now, f.size, {}) for f in self.removed),
        ]

    @property
    def bytes_written(self) -> int:
        """Size of the files written."""
        return sum(a.size for a in self.added)


def rewrite(table: DeltaTable, changes: Changes) -> Rewrite:
    """Write anew the files that hold rows which are to change, several files at a time.

    Files that hold none of them are left as they are. What is written counts only once a
    transaction has taken it over; if something fails, it is deleted again.
    """
    fs, schema = filesystem(table), stored_schema(table)
    pmids = changes.pmids()
    files = touched(stored_files(table), pmids)
    made: list[tuple[StoredFile, list[AddAction], np.ndarray]] = []
    try:
        with ThreadPoolExecutor(_THREADS) as threads:
            for result in threads.map(partial(_rewrite_file, fs, schema, changes, pmids), files):
                made += result
    except BaseException:
        discard(table, [a for _, added, _ in made for a in added])
        raise
    return Rewrite(
        added=[a for _, added, _ in made for a in added],
        removed=[f for f, _, _ in made],
        found=np.sort(np.concatenate([NO_PMIDS, *(found for _, _, found in made)])),
    )


def latest_rows(rows: Sequence[Dataset], pmids: np.ndarray) -> pa.Table:
    """The rows of some PMIDs (sorted), by PMID; of several of one PMID the last annotated."""
    condition = with_pmids(pmids)
    parts = [as_stored(d.to_table(filter=condition)) for d in rows]
    found = pa.concat_tables([STORED_SCHEMA.empty_table(), *parts])
    found = found.sort_by([("pmid", "ascending"), ("annotated_at", "ascending")])
    keys = found["pmid"].to_numpy()
    return found.filter(pa.array(np.append(keys[1:] != keys[:-1], True)[: len(keys)]))


def _rewrite_file(
    fs: FileSystem, schema: pa.Schema, changes: Changes, pmids: np.ndarray, file: StoredFile
) -> list[tuple[StoredFile, list[AddAction], np.ndarray]]:
    """Write one file anew: the file, the actions for the new one, and which PMIDs of those to
    change it holds. Nothing is written, and the list is empty, if it holds none."""
    asked = between(pmids, file.low, file.high)
    found = np.intersect1d(read_pmids(fs, file.path), asked)
    if not len(found):
        return []
    replaced = np.intersect1d(found, changes.replaced)
    rows = schema.empty_table()
    if len(replaced):
        rows = as_stored(latest_rows(changes.rows, replaced), schema)
    with FileWriter(fs, schema) as writer:
        for batch in read_batches(fs, file.path, schema):
            writer.write(_change(batch, rows, changes))
    return [(file, writer.action(), found)]


def _change(batch: pa.Table, rows: pa.Table, changes: Changes) -> pa.Table:
    """A row group with the changes applied; ``rows`` (by PMID) are the new rows for this file."""
    pmids = batch["pmid"].to_numpy()
    new = rows["pmid"].to_numpy()
    gone = _among(pmids, changes.gone)
    replaced = _among(pmids, new) & ~gone
    patched = _among(pmids, changes.patched()) & ~gone & ~replaced
    hit = gone | replaced | patched
    if not hit.any():
        return batch
    fresh = rows.take(np.searchsorted(new, pmids[replaced]))
    if changes.patches is not None and patched.any():
        fresh = pa.concat_tables([fresh, _patch(batch.filter(patched), changes.patches)])
    if hit.sum() > _FEW:
        return pa.concat_tables([batch.filter(~hit), fresh]).sort_by("pmid")
    # Rows in between are passed on as they lie: to copy them takes as long as to compress them.
    place = {pmid: i for i, pmid in enumerate(fresh["pmid"].to_pylist())}
    pieces, start = [], 0
    for at in np.flatnonzero(hit):
        pieces.append(batch.slice(start, at - start))
        if (i := place.get(int(pmids[at]))) is not None:
            pieces.append(fresh.slice(i, 1))
        start = at + 1
    return pa.concat_tables([*pieces, batch.slice(start)])


def _patch(rows: pa.Table, patches: pa.Table) -> pa.Table:
    """``rows`` with the METADATA_COLUMNS of their patches; each of them has one."""
    places = np.searchsorted(patches["pmid"].to_numpy(), rows["pmid"].to_numpy())
    taken = patches.take(places)
    for name in METADATA_COLUMNS:
        field = STORED_SCHEMA.field(name)
        rows = rows.set_column(STORED_SCHEMA.names.index(name), field, taken[name].cast(field.type))
    return rows


def _among(values: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Which of ``values`` are in ``keys`` (sorted)."""
    if not len(keys) or not len(values):
        return np.zeros(len(values), bool)
    return np.isin(values, between(keys, values.min(), values.max()))
