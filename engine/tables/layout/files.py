"""How the annotations table lies in files, and how files are made and made anew.

Enters: a Delta table and what is to change in it. Leaves: Parquet files beside the table's own, and
the actions that put them into it. Left to others: the transaction, without which none of it counts.

Rows lie by PMID: a file is sorted, says its lowest and highest PMID, and has few neighbours that
reach into its range. So what touches recent PMIDs makes anew only their files, and what touches
PMIDs everywhere is one pass over the table, file by file, a batch of rows at a time.

Files are written here and not by delta-rs: its merge stores Arrow's view types in them, which plain
``pandas.read_parquet`` does not read, and sorts nothing.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.fs import DeltaStorageHandler
from deltalake.transaction import AddAction, RemoveAction
from pyarrow.dataset import Dataset, dataset
from pyarrow.fs import FileSystem, PyFileSystem, SubTreeFileSystem

from engine.tables.layout.leftovers import new_name
from schemas.annotations import ANNOTATIONS_SCHEMA, METADATA_COLUMNS

ROWS_PER_FILE = 65_536
"""Some 55 MB: 40 million citations are about 600 files."""

ROWS_PER_GROUP = 16_384
"""Rows that are in memory at once while a file is made anew: some 40 MB."""

STORED_SCHEMA = pa.schema(
    # Delta has one binary type.
    [f.with_type(pa.binary()) if f.name == "text_digest" else f for f in ANNOTATIONS_SCHEMA]
)

NO_PMIDS = np.array([], np.int64)

# Of zstd: a core reads and writes 82,000 rows/s, of 702 bytes; at level 3 74,000, of 677; at 1
# 89,000, of 842.
_LEVEL = 2
_THREADS = min(8, os.cpu_count() or 1)
_LOT_ROWS = 131_072
_FEW = 64
# The others are all different, or nearly: looking for repetitions takes a third of the time.
_REPETITIVE = [
    "version", "mentions.list.element.text", "mentions.list.element.entity_type",
    "mentions.list.element.grade", "mentions.list.element.identifier", "status", "error",
    "annotator", "run_id", "annotated_at", "source", "pub_year", "journal", "language",
    "publication_types.list.element",
]  # fmt: skip
_BOUNDED = ["pmid", "status", "annotator", "run_id", "annotated_at", "source", "pub_year",
            "journal", "language"]  # fmt: skip

_BOUNDED_SMALL = ("pmid", "annotator", "run_id", "name")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the table: its path in it, and the lowest and highest PMID in it."""

    path: str
    size: int
    rows: int
    low: int
    high: int


@dataclass(frozen=True)
class Changes:
    """What is to change in rows that the table holds, by PMID; all PMIDs sorted.

    ``rows`` (ANNOTATIONS_SCHEMA) holds, among others, whole rows for ``replaced``; ``patches``, a
    row for each PMID once, new METADATA_COLUMNS; ``gone`` are removed.
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


def write_rows(table: DeltaTable, rows: pa.Table) -> list[AddAction]:
    """Write new files of ``rows`` (ANNOTATIONS_SCHEMA, by PMID)."""
    fs = filesystem(table)
    added: list[AddAction] = []
    try:
        borders = np.linspace(0, len(rows), _file_count(len(rows)) + 1).astype(int)
        for start, end in pairwise(borders):
            with _FileWriter(fs) as writer:
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
            pq.write_table(rows, stream, compression="zstd")
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


def rewrite(table: DeltaTable, changes: Changes) -> Rewrite:
    """Write anew the files that hold what is to change, several at a time."""
    fs = filesystem(table)
    pmids = changes.pmids()
    files = touched(stored_files(table), pmids)
    made: list[tuple[StoredFile, list[AddAction], np.ndarray]] = []
    try:
        with ThreadPoolExecutor(_THREADS) as threads:
            for result in threads.map(partial(_rewrite_file, fs, changes, pmids), files):
                made += result
    except BaseException:
        discard(table, [a for _, added, _ in made for a in added])
        raise
    return Rewrite(
        added=[a for _, added, _ in made for a in added],
        removed=[f for f, _, _ in made],
        found=np.sort(np.concatenate([NO_PMIDS, *(found for _, _, found in made)])),
    )


def loose_files(table: DeltaTable) -> int:
    """How many files :func:`compact` would put together with others."""
    return len(_well_laid(stored_files(table))[1])


def compact(table: DeltaTable) -> Rewrite | None:
    """Write the rows of small and overlapping files into files of ROWS_PER_FILE, by PMID.

    Files that lie well are touched only where such rows fall between theirs. None if there is
    nothing to do; else there may be more to do after it, as memory is bounded.
    """
    fs = filesystem(table)
    lying, loose = _well_laid(stored_files(table))
    if not loose or (len(loose) == 1 and not any(_overlap(loose[0], f) for f in lying)):
        return None
    small = [f for f in loose if f.rows <= ROWS_PER_GROUP]
    lot = [f for f in loose if f.rows > ROWS_PER_GROUP]
    while small and sum(f.rows for f in lot if f.rows <= ROWS_PER_GROUP) < _LOT_ROWS:
        lot.append(small.pop(0))
    pmids = np.sort(np.concatenate([_read_pmids(fs, f.path) for f in lot]))
    # Small files may reach from the oldest to the newest citation: each would be read again for
    # every file that is made, so their rows are held.
    held = [_read(fs, f.path) for f in lot if f.rows <= ROWS_PER_GROUP]
    in_memory = pa.concat_tables([STORED_SCHEMA.empty_table(), *held]).sort_by("pmid")
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
            rows = pa.concat_tables(
                [_range(in_memory, low, high), *(_read(fs, f.path, low, high) for f in near)]
            )
            added += write_rows(table, rows.sort_by("pmid"))
    except BaseException:
        discard(table, added)
        raise
    return Rewrite(added, removed, pmids)


def discard(table: DeltaTable, added: Sequence[AddAction]) -> None:
    """Delete files that no transaction took over."""
    fs = filesystem(table)
    for action in added:
        with suppress(OSError):  # `pubmark vacuum` finds it
            fs.delete_file(action.path)


def as_stored(rows: pa.Table) -> pa.Table:
    """``rows`` as STORED_SCHEMA; columns that an older version did not have are null."""
    columns = [
        rows[f.name].cast(f.type) if f.name in rows.column_names else pa.nulls(len(rows), f.type)
        for f in STORED_SCHEMA
    ]
    return pa.Table.from_arrays(columns, schema=STORED_SCHEMA)


def latest_rows(rows: Sequence[Dataset], pmids: np.ndarray) -> pa.Table:
    """The rows of some PMIDs (sorted), by PMID; of several of one PMID the last annotated."""
    condition = with_pmids(pmids)
    parts = [as_stored(d.to_table(filter=condition)) for d in rows]
    found = pa.concat_tables([STORED_SCHEMA.empty_table(), *parts])
    found = found.sort_by([("pmid", "ascending"), ("annotated_at", "ascending")])
    keys = found["pmid"].to_numpy()
    return found.filter(pa.array(np.append(keys[1:] != keys[:-1], True)[: len(keys)]))


def with_pmids(pmids: np.ndarray) -> pc.Expression:
    """A filter for rows with one of ``pmids`` (sorted, at least one), to scan with."""
    within = (pc.field("pmid") >= int(pmids[0])) & (pc.field("pmid") <= int(pmids[-1]))
    return within & pc.field("pmid").isin(pa.array(pmids))


class _FileWriter:
    """One new file. Its action is there once it is closed; a file without rows is deleted."""

    def __init__(self, fs: FileSystem):
        self._fs, self._path = fs, new_name()
        self._rows = 0
        self._bounds: dict[str, list[Any]] = {}

    def __enter__(self) -> "_FileWriter":
        self._stream = self._fs.open_output_stream(self._path)
        self._parquet = pq.ParquetWriter(
            self._stream, STORED_SCHEMA, compression="zstd", compression_level=_LEVEL,
            use_dictionary=_REPETITIVE, write_statistics=_BOUNDED,
        )  # fmt: skip
        return self

    def write(self, rows: pa.Table) -> None:
        if not len(rows):
            return
        stored = as_stored(rows)
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


def _rewrite_file(
    fs: FileSystem, changes: Changes, pmids: np.ndarray, file: StoredFile
) -> list[tuple[StoredFile, list[AddAction], np.ndarray]]:
    """One file, without the rows that go and with those that come; nothing if none is in it."""
    asked = between(pmids, file.low, file.high)
    found = np.intersect1d(_read_pmids(fs, file.path), asked)
    if not len(found):
        return []
    replaced = np.intersect1d(found, changes.replaced)
    rows = STORED_SCHEMA.empty_table()
    if len(replaced):
        rows = latest_rows(changes.rows, replaced)
    with _FileWriter(fs) as writer:
        for batch in _batches(fs, file.path):
            writer.write(_change(batch, rows, changes))
    return [(file, writer.action(), found)]


def _change(batch: pa.Table, rows: pa.Table, changes: Changes) -> pa.Table:
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
    places = np.searchsorted(patches["pmid"].to_numpy(), rows["pmid"].to_numpy())
    taken = patches.take(places)
    for name in METADATA_COLUMNS:
        field = STORED_SCHEMA.field(name)
        rows = rows.set_column(STORED_SCHEMA.names.index(name), field, taken[name].cast(field.type))
    return rows


def _batches(fs: FileSystem, path: str) -> Iterator[pa.Table]:
    with fs.open_input_file(path) as file:
        parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
        for batch in parquet.iter_batches(ROWS_PER_GROUP, use_threads=False):
            yield as_stored(pa.Table.from_batches([batch]))


def _read(fs: FileSystem, path: str, low: int | None = None, high: int | None = None) -> pa.Table:
    condition = None
    if low is not None and high is not None:
        condition = (pc.field("pmid") >= low) & (pc.field("pmid") <= high)
    return as_stored(dataset(path, format="parquet", filesystem=fs).to_table(filter=condition))


def _read_pmids(fs: FileSystem, path: str) -> np.ndarray:
    with fs.open_input_file(path) as file:
        return pq.ParquetFile(file).read(["pmid"])["pmid"].to_numpy()


def _range(rows: pa.Table, low: int, high: int) -> pa.Table:
    """The rows, sorted by PMID, from ``low`` to ``high``."""
    pmids = rows["pmid"].to_numpy()
    start, end = np.searchsorted(pmids, low), np.searchsorted(pmids, high, "right")
    return rows.slice(start, end - start)


def between(pmids: np.ndarray, low: int, high: int) -> np.ndarray:
    """Those of ``pmids`` (sorted) from ``low`` to ``high``."""
    return pmids[np.searchsorted(pmids, low) : np.searchsorted(pmids, high, "right")]


def _among(values: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Which of ``values`` are in ``keys`` (sorted)."""
    if not len(keys) or not len(values):
        return np.zeros(len(values), bool)
    return np.isin(values, between(keys, values.min(), values.max()))


def _overlap(one: StoredFile, other: StoredFile) -> bool:
    return one.low <= other.high and other.low <= one.high


def _well_laid(files: list[StoredFile]) -> tuple[list[StoredFile], list[StoredFile]]:
    """Files that are large enough and follow one another, and the rest."""
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
    """The files to be made so that ``pmids`` find their place: from which PMID to which, and the
    file that lies there already. What falls between two files and is enough makes its own."""
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
            merged = np.sort(np.concatenate([inside, _read_pmids(fs, base.path)]))
            yield from ((base, *ends) for ends in _cut(merged))


def _cut(pmids: np.ndarray) -> Iterator[tuple[int, int]]:
    """Even pieces of about ROWS_PER_FILE: their first and last PMID."""
    for piece in np.array_split(pmids, _file_count(len(pmids))):
        yield int(piece[0]), int(piece[-1])


def _file_count(rows: int) -> int:
    return max(1, round(rows / ROWS_PER_FILE))
