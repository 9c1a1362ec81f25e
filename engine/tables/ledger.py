"""Which files the annotations table has taken in, in what order they count, and what they said.

That a file (its name and MD5) is taken in is written in the transaction of ``annotations`` that
makes it so, as an application transaction of Delta's: it holds exactly when the file's rows do, and
survives the clean-up of the log. What the file said, which PMIDs it held and deleted, is too much
for that and stands in the table ``files``. It is written just before; what stands there without its
transaction does not count.

So a file that is given late or twice is applied as if all had been given in order, without reading
the others again: a PMID of which a later file has spoken is no longer its business. It matters that
*every* PMID of a file is known, also where nothing had to be stored: a revision of MeSH terms alone
leaves no trace in ``annotations``, and yet its text is later than that of an older file.
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

    def place(self, name: str, md5: str) -> int | None:
        """As the how-manieth a file was taken in; None if it was not."""
        place = self._version(_file_id(identity(name), md5))
        return place if place is not None and place >= self._from else None

    def rank(self, name: str, md5: str) -> Rank:
        """Where a file stands among all; those never seen are last, and equal."""
        if number := nlm_number(name):
            return (0, *number)
        place = self.place(name, md5)
        return _NEW if place is None else (1, place, 0)

    def later(self, names: Sequence[str], ranks: Sequence[Rank]) -> Iterator[tuple[int, pa.Array]]:
        """What other files than ``names`` say that count later than some of them.

        ``ranks``, ascending, are those of ``names``. Yields, for each such file, how many of
        ``names`` it comes after, and the PMIDs that it holds or deletes.
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
            and self.place(f["name"], f["md5"]) is not None
        }
        condition = pc.field("name").isin(pa.array({n for n, _ in after}, pa.string()))
        for batch in files.to_batches(filter=condition, batch_size=16) if after else ():
            for row in batch.to_struct_array() if len(batch) else ():
                place = after.get((row["name"].as_py(), row["md5"].as_py()))
                if place is not None:
                    yield place, pa.concat_arrays([row["pmids"].values, row["deleted"].values])

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
        for place, theirs in self.later(names, [(0, *numbers[n]) for n in names]):
            late |= (own < place) & np.isin(pmids, theirs)
        return pa.array(pmids[late])

    def take_in(
        self, scans: pa.Table, names: Sequence[str], run_id: str, replace: bool
    ) -> list[Transaction]:
        """Write down what files say, and give what makes it count, for the transaction to take.

        ``scans`` are rows of SCAN_SCHEMA in the order of ``names``. Those that were read only in
        part are left out: a whole copy is another file. ``replace`` forgets all files before.
        """
        new = [
            i
            for i, (md5, damage) in enumerate(
                zip(scans["md5"].to_pylist(), scans["damage"], strict=True)
            )
            if not damage.is_valid and (replace or self.place(names[i], md5) is None)
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
        places = zip(found, taken["md5"].to_pylist(), range(first, first + len(new)), strict=True)
        return [
            *(Transaction(_file_id(name, md5), place) for name, md5, place in places),
            Transaction(FILES_ID, self.count + len(new)),
            *([Transaction(_FROM_ID, first)] if replace else []),
        ]

    def _version(self, app_id: str) -> int | None:
        return None if self._table is None else self._table.transaction_version(app_id)


def baseline_transaction(year: int) -> Transaction:
    """Says that the baseline of ``year`` was taken in completely."""
    return Transaction(_BASELINE_ID, year)


def places(sources: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """For each of ``sources`` (of stored rows), how many of ``names`` (in their order) it outranks.

    What is not NLM's outranks all of NLM's, and nothing else: among themselves, the later given
    counts.
    """
    numbers = [n for n in map(nlm_number, names) if n]
    found = map(nlm_number, sources)
    return np.array([bisect_left(numbers, n) if n else len(numbers) for n in found], np.int32)


def _file_id(name: str, md5: str) -> str:
    return f"pubmark.file {name} {md5}"
