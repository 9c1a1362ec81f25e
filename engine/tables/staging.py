"""Rows that wait for a pass over the table.

A row that replaces one costs the file that the other stands in, and a few thousand all over PubMed
cost every file. So such rows are committed to the table ``staged``, which no reader of
``annotations`` sees, until they are so many that a pass is worth it, or the run ends. What a crash
leaves there, the next run puts in its place before it plans.

Enters: rows of one run. Leaves: files of them to read, until they are removed. Left to others: when
a pass is worth it, and the pass (committer.py).
"""

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
from deltalake import CommitProperties
from deltalake.exceptions import CommitFailedError
from pyarrow.dataset import Dataset, dataset

from engine.tables.exclusive import check_exclusive
from engine.tables.layout.files import NO_PMIDS, filesystem, stored_files
from engine.tables.layout.rewrite import Rewrite
from engine.tables.store import Store
from engine.tables.transactions import MAX_TRIES


class Staging:
    """What the run ``run_id`` has staged; ``pmids`` are those of this process, sorted. ``notes``
    gives what each commit to ``staged`` says."""

    def __init__(self, store: Store, run_id: str, notes: Callable[[], Mapping[str, str]] = dict):
        self._store, self._run_id, self._notes = store, run_id, notes
        self.pmids = NO_PMIDS

    def add(self, rows: pa.Table) -> None:
        """Stage rows (ANNOTATIONS_SCHEMA)."""
        self._store.append("staged", rows, {"pubmark.run_id": self._run_id, **self._notes()})
        self.pmids = np.union1d(self.pmids, rows["pmid"])

    def files(self, any_run: bool = False) -> list[str]:
        """The files that this run has staged, or any run."""
        if not self._store.has("staged"):
            return []
        files = pa.table(self._store.load("staged").get_add_actions(flatten=True))
        if not len(files):
            return []
        # What is staged together is of one run.
        pairs = zip(files["path"].to_pylist(), files["min.run_id"].to_pylist(), strict=True)
        return [path for path, run_id in pairs if any_run or run_id == self._run_id]

    def rows(self, files: list[str]) -> Dataset:
        """The rows of some files."""
        fs = filesystem(self._store.load("staged"))
        return dataset(files, format="parquet", filesystem=fs)

    def remove(self, files: list[str]) -> None:
        """Take files out, whose rows are in their place. If that fails, the next run finds them
        settled."""
        self.pmids = NO_PMIDS
        for _ in range(MAX_TRIES if files else 0):
            table = self._store.load("staged")
            present = [f for f in stored_files(table) if f.path in set(files)]
            actions = Rewrite([], present, NO_PMIDS).actions(data_change=True)
            check_exclusive()
            try:
                if actions:
                    table.create_write_transaction(
                        actions, mode="append", schema=table.schema(),
                        commit_properties=CommitProperties(max_commit_retries=0),
                    )  # fmt: skip
                return
            except CommitFailedError:
                continue


def newer(keys: pa.Table, stored: pa.Table) -> np.ndarray:
    """The PMIDs, sorted, of staged rows whose row in the table is older or missing.

    Both have ``pmid`` and ``annotated_at``.
    """
    times = {
        pmid: time
        for pmid, time in zip(
            stored["pmid"].to_pylist(), stored["annotated_at"].to_pylist(), strict=True
        )
        if time is not None
    }
    staged = zip(keys["pmid"].to_pylist(), keys["annotated_at"].to_pylist(), strict=True)
    return np.unique(
        np.array([p for p, time in staged if p not in times or time > times[p]], np.int64)
    )
