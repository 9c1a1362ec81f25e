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
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, Transaction

from engine.sources.nlm import identity, nlm_number
from engine.tables.log import app_transactions
from engine.tables.store import Store
from schemas.annotations import FILES_SCHEMA

FileKey = tuple[str, str]
"""A file by its name (see :func:`engine.sources.nlm.identity`) and the MD5 of its bytes, in hex: so
two files of one name in two folders are two, as are two contents that NLM posted under one name."""

Rank = tuple[int, int, int, int]
"""The order in which files count: NLM's by year and number, then all others. Files that are equal
in this, such as one that NLM has posted again, go by when they were first taken in."""

FILES_ID = "pubmark.files"
"""The application transaction that counts the files taken in."""

_FILE_ID = "pubmark.file "
_FROM_ID = "pubmark.files_from"
_BASELINE_ID = "pubmark.baseline"
_NEW = 2**62
"""Stands for the position of a file that was not taken in: after all others."""

_T = TypeVar("_T")


class Ledger:
    """What ``table``, a version of the annotations table, has taken in. None: nothing yet."""

    def __init__(self, store: Store, table: DeltaTable | None):
        self._store, self._table = store, table

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {} if self._table is None else app_transactions(self._table)

    @cached_property
    def files(self) -> dict[FileKey, int]:
        """The files taken in, each with its position in intake order, from 1."""
        first = self._numbers.get(_FROM_ID, 0)  # --force replaces what was taken in before it
        return {
            (name, md5): position
            for app_id, position in self._numbers.items()
            if app_id.startswith(_FILE_ID) and position >= first
            for name, _, md5 in [app_id.removeprefix(_FILE_ID).rpartition(" ")]
        }

    @property
    def count(self) -> int:
        """How many files were taken in, those before --force among them."""
        return self._numbers.get(FILES_ID, 0)

    @property
    def baseline(self) -> int | None:
        """The (two-digit) year of the newest baseline that was taken in completely."""
        return self._numbers.get(_BASELINE_ID)

    def position(self, name: str, md5: str) -> int | None:
        """The file's position in intake order, from 1; None if it was not taken in."""
        return self.files.get(key_of(name, md5))

    def rank(self, name: str, md5: str) -> Rank:
        """A file's rank, by which files are ordered; of equals, one never seen comes last."""
        return rank_of(name, self.position(name, md5))

    def numbers(self, year: int) -> set[int]:
        """The numbers of NLM's files of a (two-digit) year that were taken in."""
        found = (nlm_number(name) for name, _ in self.files)
        return {n[1] for n in found if n and n[0] == year}

    def later(self, given: Sequence[FileKey], since: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        """Files taken in before, other than ``given``, whose records win over some of theirs.

        ``given`` are in the order of their ranks; a file that was taken in by position ``since`` or
        before is not looked at. Yields for each such file how many of ``given`` come before it, and
        the PMIDs that it holds or deletes: of these PMIDs, the records of those files do not count.
        """
        ranks = [self.rank(*key) for key in given]
        known = set(given)
        after = {
            key: bisect_left(ranks, rank)
            for key, position in self.files.items()
            if position > since
            and key not in known
            and ranks
            and (rank := rank_of(key[0], position)) > ranks[0]
        }
        return self.spoken(after)

    def spoken(self, files: Mapping[FileKey, _T]) -> Iterator[tuple[_T, np.ndarray]]:
        """What ``files`` gives for each file, and the PMIDs that the file holds or deletes, in no
        order."""
        if not files or not self._store.has("files"):
            return
        condition = pc.field("name").isin(pa.array({name for name, _ in files}, pa.string()))
        read = set()  # a run that was overtaken at its end may have said it twice
        table = self._store.dataset("files")
        columns = ["name", "md5", "pmids", "deleted"]
        for batch in table.to_batches(columns=columns, filter=condition, batch_size=16):
            for row in batch.to_struct_array() if len(batch) else ():
                key = (row["name"].as_py(), row["md5"].as_py())
                if key in files and key not in read:
                    read.add(key)
                    pmids = pa.concat_arrays([row["pmids"].values, row["deleted"].values])
                    yield files[key], pmids.to_numpy(zero_copy_only=False)

    def take_in(
        self, scans: pa.Table, names: Sequence[str], run_id: str, replace: bool
    ) -> list[Transaction]:
        """Store what files hold in ``files``, and give the application transactions that make it
        count.

        ``scans`` are rows of SCAN_SCHEMA in the order of ``names``. Files that were read only in
        part are left out: a whole copy is another file. ``replace`` forgets all files taken in
        before.
        """
        new: dict[FileKey, int] = {}
        for i, (md5, damage) in enumerate(
            zip(scans["md5"].to_pylist(), scans["damage"], strict=True)
        ):
            key = key_of(names[i], md5)
            if not damage.is_valid and (replace or key not in self.files):
                new.setdefault(key, i)
        if not new:
            return []
        stored = self._stored(new)
        if missing := {key: i for key, i in new.items() if key not in stored}:
            taken = scans.take(list(missing.values()))
            found, md5s = zip(*missing, strict=True)
            citations = pc.list_value_length(taken["pmid"])
            runs = [run_id] * len(missing)
            rows = [found, md5s, runs, citations, taken["pmid"], taken["deleted"]]
            arrays = [
                a.cast(f.type) if isinstance(a, pa.ChunkedArray) else pa.array(a, f.type)
                for a, f in zip(rows, FILES_SCHEMA, strict=True)
            ]
            self._store.append("files", pa.Table.from_arrays(arrays, schema=FILES_SCHEMA))
        first = self.count + 1
        return [
            *(
                Transaction(f"{_FILE_ID}{name} {md5}", first + i)
                for i, (name, md5) in enumerate(new)
            ),
            Transaction(FILES_ID, self.count + len(new)),
            *([Transaction(_FROM_ID, first)] if replace else []),
        ]

    def _stored(self, files: Mapping[FileKey, int]) -> set[FileKey]:
        """Those of ``files`` that have a row in ``files`` already, though they may not count."""
        if not self._store.has("files"):
            return set()
        condition = pc.field("name").isin(pa.array({name for name, _ in files}, pa.string()))
        rows = self._store.dataset("files").to_table(columns=["name", "md5"], filter=condition)
        return set(zip(rows["name"].to_pylist(), rows["md5"].to_pylist(), strict=True))


def key_of(name: str, md5: str) -> FileKey:
    """What a file is known by."""
    return identity(name), md5


def rank_of(name: str, position: int | None) -> Rank:
    """The rank of a file that was taken in at ``position``; None: never."""
    number = nlm_number(name)
    return (*((0, *number) if number else (1, 0, 0)), _NEW if position is None else position)


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
