"""A year's complete baseline: which year it is, and which citations it no longer holds."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.sources.nlm import nlm_number
from engine.sources.shards import Shard
from schemas.errors import UsageError


def vanished(stored: Iterable[pa.RecordBatch], held: np.ndarray) -> np.ndarray:
    """The PMIDs, sorted, that a complete baseline no longer holds.

    ``stored`` are ``pmid`` and ``source`` of the table's rows, ``held`` the PMIDs, sorted, of which
    files of the baseline's year speak. Rows that are not from NLM's files are not NLM's to remove.
    """
    found = [np.array([], np.int64)]
    for batch in stored:
        sources = batch["source"].unique().to_pylist()
        nlm = pa.array([s for s in sources if s and nlm_number(s)], pa.string())
        pmids = batch.filter(pc.is_in(batch["source"], nlm))["pmid"].to_numpy()
        places_ = np.searchsorted(held, pmids)
        known = np.zeros(len(pmids), bool)
        inside = places_ < len(held)
        known[inside] = held[places_[inside]] == pmids[inside]
        found.append(pmids[~known])
    return np.sort(np.concatenate(found))


def baseline_year(shards: list[Shard]) -> int:
    """The year of the complete baseline among the shards: its numbers have no gap."""
    numbers = [n for s in shards if (n := nlm_number(s.name))]
    if not numbers:
        raise UsageError("--baseline: no file of NLM's among the sources")
    year = numbers[-1][0]
    found = {number for y, number in numbers if y == year}
    if missing := sorted(set(range(1, max(found) + 1)) - found):
        raise UsageError(
            f"--baseline: the sources hold {len(found)} files of year {year} up to "
            f"{max(found):04}, {len(missing)} are missing, the first {missing[0]:04}; expected all"
        )
    return year
