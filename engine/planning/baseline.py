"""A year's complete baseline: which year it is, and which citations it no longer holds.

Enters: shards by name, and the PMIDs of stored rows. Leaves: a year, numbers that are missing,
PMIDs that are to be removed. Left to others: removing them.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.sources.nlm import nlm_number
from engine.sources.shards import Shard
from schemas.errors import UsageError


def missing_numbers(shards: Sequence[Shard], year: int) -> list[int]:
    """The numbers of a year's files that are not there, up to the highest that is."""
    numbers = _numbers(shards, year)
    return sorted(set(range(1, max(numbers, default=0) + 1)) - numbers)


def baseline_year(shards: Sequence[Shard]) -> int:
    """The year of the complete baseline among the shards, two digits: the newest year there is.

    Raises:
        UsageError: if no file is NLM's, or a number of that year is missing.
    """
    years = [n[0] for s in shards if (n := nlm_number(s.name))]
    if not years:
        raise UsageError("--baseline: no file of NLM's among the sources")
    year = max(years)
    if missing := missing_numbers(shards, year):
        numbers = _numbers(shards, year)
        raise UsageError(
            f"--baseline: the sources hold {len(numbers)} files of year {year} up to "
            f"{max(numbers):04}, {len(missing)} are missing, the first {missing[0]:04}; "
            "expected all"
        )
    return year


def _numbers(shards: Sequence[Shard], year: int) -> set[int]:
    return {n[1] for s in shards if (n := nlm_number(s.name)) and n[0] == year}


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
        positions = np.searchsorted(held, pmids)
        known = np.zeros(len(pmids), bool)
        inside = positions < len(held)
        known[inside] = held[positions[inside]] == pmids[inside]
        gone.append(pmids[~known])
    return np.sort(np.concatenate(gone))
