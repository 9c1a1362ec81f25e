"""Which files the annotations table has taken in, in what order they count, and what they hold.

Enters: a version of the table, and scanned files. Leaves: ranks of files, PMIDs that later files
hold or delete, and the transactions that say that files are taken in. Left to others: deciding by
them (planning), and committing (committer.py).

That a file (its name and MD5) is taken in is part of the very transaction of ``annotations`` that
stores its rows, as a Delta application transaction: so it is true exactly when the rows are there,
and it survives the clean-up of the log. Which PMIDs the file holds and deletes is too much for
that, and is stored in the table ``files`` just before. A row there without its transaction does not
count.

So a file that is given late or twice is applied as if all files had been given in order, without
reading the others again: its records of PMIDs that a later file holds or deletes do not count. For
this *every* PMID of a file must be known, also where nothing had to be stored: a file that revises
only MeSH terms leaves no trace in ``annotations``, yet its record is later than that of an older
file.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, Transaction

from engine.sources.nlm import identity, nlm_number
from engine.tables.store import Store
from schemas.annotations import FILES_SCHEMA

Rank = tuple[int, int, int]
"""The order of files: NLM's by (year, number), then others by when they were first taken in."""

FILES_ID = "pubmark.files"
"""The application transaction that counts the files taken in."""

_FROM_ID = "pubmark.files_from"
_BASELINE_ID = "pubmark.baseline"
_NEW: Rank = (2, 0, 0)


class Ledger:
    """What ``table``, a version of the annotations table, has taken in. None: nothing yet."""

    def __init__(self, store: Store, table: DeltaTable | None):
        self._store, self._table = store, table
        # --force replaces what was taken in before it.
        self._from = self._version(_FROM_ID) or 0
        self.count = self._version(FILES_ID) or 0

    @property
    def baseline(self) -> int | None:
        """The (two-digit) year of the newest baseline that was taken in completely."""
        return self._version(_BASELINE_ID)

    def position(self, name: str, md5: str) -> int | None:
        """The file's position in intake order, from 1; None if it was not taken in."""
        position = self._version(_file_id(identity(name), md5))
        return position if position is not None and position >= self._from else None

    def rank(self, name: str, md5: str) -> Rank:
        """A file's rank, by which files are ordered; those never seen are last, and equal."""
        if number := nlm_number(name):
            return (0, *number)
        position = self.position(name, md5)
        return _NEW if position is None else (1, position, 0)

    def later(self, names: Sequence[str], ranks: Sequence[Rank]) -> Iterator[tuple[int, pa.Array]]:
        """Files taken in before, other than ``names``, whose records win over some of theirs.

        ``ranks``, ascending, are those of ``names``. Yields for each such file how many of
        ``names`` come before it, and the PMIDs that it holds or deletes: of these PMIDs, the
        records of those files do not count.
        """
        if not self._store.has("files") or not ranks:
            return
        given = {identity(n) for n in names}
        files = self._store.dataset("files")
        known = files.to_table(columns=["name", "md5"]).to_pylist()
        after = {
            (f["name"], f["md5"]): bisect_left(ranks, rank)
            for f in known
            if f["name"] not in given
            and (rank := self.rank(f["name"], f["md5"])) > ranks[0]
            and self.position(f["name"], f["md5"]) is not None
        }
        condition = pc.field("name").isin(pa.array({n for n, _ in after}, pa.string()))
        for batch in files.to_batches(filter=condition, batch_size=16) if after else ():
            for row in batch.to_struct_array() if len(batch) else ():
                position = after.get((row["name"].as_py(), row["md5"].as_py()))
                if position is not None:
                    yield position, pa.concat_arrays([row["pmids"].values, row["deleted"].values])

    def superseded(self, rows: pa.Table) -> pa.Array:
        """The PMIDs of ``rows`` (``pmid``, ``source``) of which a later file of NLM's speaks than
        the one that they are from."""
        sources = rows["source"].to_pylist()
        numbers = {n: number for n in set(sources) if n and (number := nlm_number(n))}
        names = sorted(numbers, key=numbers.__getitem__)
        index = {name: i for i, name in enumerate(names)}
        own = np.array([index.get(s, len(names)) for s in sources])
        pmids = rows["pmid"].to_numpy()
        late = np.zeros(len(rows), bool)
        for position, theirs in self.later(names, [(0, *numbers[n]) for n in names]):
            late |= (own < position) & np.isin(pmids, theirs)
        return pa.array(pmids[late])

    def take_in(
        self, scans: pa.Table, names: Sequence[str], run_id: str, replace: bool
    ) -> list[Transaction]:
        """Store what files hold in ``files``, and give the application transactions that make it
        count.

        ``scans`` are rows of SCAN_SCHEMA in the order of ``names``. Files that were read only in
        part are left out: a whole copy is another file. ``replace`` forgets all files taken in
        before.
        """
        new = [
            i
            for i, (md5, damage) in enumerate(
                zip(scans["md5"].to_pylist(), scans["damage"], strict=True)
            )
            if not damage.is_valid and (replace or self.position(names[i], md5) is None)
        ]
        if not new:
            return []
        taken = scans.take(new)
        found = [identity(names[i]) for i in new]
        rows = [found, taken["md5"], [run_id] * len(new), pc.list_value_length(taken["pmid"]),
                taken["pmid"], taken["deleted"]]  # fmt: skip
        arrays = [
            a.cast(f.type) if isinstance(a, pa.ChunkedArray) else pa.array(a, f.type)
            for a, f in zip(rows, FILES_SCHEMA, strict=True)
        ]
        self._store.append("files", pa.Table.from_arrays(arrays, schema=FILES_SCHEMA))
        first = self.count + 1
        positions = zip(
            found, taken["md5"].to_pylist(), range(first, first + len(new)), strict=True
        )
        return [
            *(Transaction(_file_id(name, md5), position) for name, md5, position in positions),
            Transaction(FILES_ID, self.count + len(new)),
            *([Transaction(_FROM_ID, first)] if replace else []),
        ]

    def _version(self, app_id: str) -> int | None:
        return None if self._table is None else self._table.transaction_version(app_id)


def baseline_transaction(year: int) -> Transaction:
    """Says that the baseline of ``year`` was taken in completely."""
    return Transaction(_BASELINE_ID, year)


def positions(sources: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """For the source of each stored row, how many files of ``names`` come before it.

    ``names`` are in the order in which records count. A source that is NLM's comes after NLM's
    files of lower numbers. Any other source comes after all of NLM's files, and before all others:
    of two files that are not NLM's, the one given later counts.
    """
    numbers = [n for n in map(nlm_number, names) if n]
    found = map(nlm_number, sources)
    return np.array([bisect_left(numbers, n) if n else len(numbers) for n in found], np.int32)


def _file_id(name: str, md5: str) -> str:
    return f"pubmark.file {name} {md5}"
