"""A year's complete baseline: which year it is, and which citations it no longer holds.

Enters: shards by name, and the PMIDs of stored rows. Leaves: a year, numbers that are missing,
PMIDs that are to be removed. Left to others: removing them.

That the last files are missing, as an interrupted mirror leaves it, cannot be seen from the files
that are there. So how many there are to be must be known, from NLM's index or from the user.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.sources.nlm import nlm_number
from engine.sources.shards import Shard
from engine.tables.layout.files import among
from schemas.errors import UsageError


def missing_numbers(numbers: Iterable[int], files: int | None = None) -> list[int]:
    """The numbers of a year's files that are not among ``numbers``: up to ``files``, the last that
    NLM publishes, or, if that is not known, up to the highest that is there."""
    there = set(numbers)
    return sorted(set(range(1, (files or max(there, default=0)) + 1)) - there)


def baseline_year(shards: Sequence[Shard]) -> int:
    """The year of the baseline among the shards, two digits: the newest year there is.

    Raises:
        UsageError: if no file is NLM's.
    """
    years = [n[0] for s in shards if (n := nlm_number(s.name))]
    if not years:
        raise UsageError("--baseline: no file of NLM's among the sources")
    return max(years)


def numbers_of(shards: Iterable[Shard], year: int) -> set[int]:
    """The numbers of the shards that are NLM's files of a year (two digits)."""
    return {n[1] for s in shards if (n := nlm_number(s.name)) and n[0] == year}


def check_complete(numbers: Iterable[int], year: int, files: int | None) -> None:
    """Make sure that the files of a year's baseline are all there (see :func:`missing_numbers`).

    Raises:
        UsageError: if one is missing.
    """
    there = set(numbers)
    if missing := missing_numbers(there, files):
        raise UsageError(
            f"--baseline: of the files of year {year} up to {files or max(there):04}, "
            f"{len(missing)} are neither among the sources nor taken in before, the first "
            f"{missing[0]:04}; expected all"
        )


def vanished(stored: Iterable[pa.RecordBatch], held: np.ndarray) -> np.ndarray:
    """The PMIDs, sorted, that a complete baseline no longer holds.

    ``stored`` are ``pmid`` and ``source`` of the table's rows, ``held`` the PMIDs, sorted, of which
    files of the baseline's year speak. Rows that are not from NLM's files are not NLM's to remove.
    """
    gone = [np.array([], np.int64)]
    for batch in stored:
        sources = batch["source"].unique().to_pylist()
        nlm = pa.array([s for s in sources if s and nlm_number(s)], pa.string())
        pmids = batch.filter(pc.is_in(batch["source"], nlm))["pmid"].to_numpy()
        gone.append(pmids[~among(pmids, held)])
    return np.sort(np.concatenate(gone))
