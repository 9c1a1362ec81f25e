"""Rows that wait for a pass over the table."""

import numpy as np
import pyarrow as pa


def newer(keys: pa.Table, stored: pa.Table) -> np.ndarray:
    """The PMIDs of staged rows that the table does not hold already, or something newer."""
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
