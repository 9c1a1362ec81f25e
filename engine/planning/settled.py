"""The four rules by which a row need not be written, for a batch that is about to be.

They are asked when another writer has committed between planning and committing, and tell what has
become of the plan. Of a row to commit

- :func:`settled_pmids` asks whether the table has come to hold its like: the same text by the same
  annotator;
- :func:`outranked_pmids` whether the stored row is from a later file than the one to commit;
- :func:`superseded` that, and whether a later file says anything of the PMID, if only that it is
  deleted or unchanged;
- :func:`changed` whether the stored row that it was made from is gone or is another now (for rows
  made anew from the table itself).

Enters: KEY_COLUMNS of stored rows, and rows to commit. Leaves: the PMIDs that are dropped. Left to
others: the same decision before any model time is spent (plan.py).
"""

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.sources.nlm import nlm_number
from engine.tables.ledger import Ledger
from engine.tables.store import Store

_SETTLING = ("pmid", "text_digest", "annotator")


_SETTLING_SCHEMA = pa.schema(
    [("pmid", pa.int64()), ("text_digest", pa.binary()), ("annotator", pa.string())]
)


def settled_pmids(stored: pa.Table, rows: pa.Table, retry: Collection[str] = ()) -> pa.Array:
    """The PMIDs of ``rows`` that ``stored`` settles: by the rule of :func:`make_plan`, for a batch.

    Both have KEY_COLUMNS. Used when another writer has come between planning and committing.
    """
    reopened = pc.is_in(stored["status"], pa.array(list(retry), pa.string()))
    ours, theirs = (
        t.select(list(_SETTLING)).cast(_SETTLING_SCHEMA)
        for t in (rows, stored.filter(pc.invert(reopened)))
    )
    return ours.join(theirs, list(_SETTLING), join_type="left semi")["pmid"].combine_chunks()


def outranked_pmids(stored: pa.Table, rows: pa.Table) -> pa.Array:
    """The PMIDs of ``rows`` whose stored row is from a later file of NLM's, or not from NLM.

    Both have ``pmid`` and ``source``.
    """
    both = rows.select(["pmid", "source"]).join(
        stored.select(["pmid", "source"]), "pmid", right_suffix="_stored", join_type="inner"
    )
    outranked = [
        pmid
        for pmid, ours, theirs in zip(*both.to_pydict().values(), strict=True)
        if theirs is not None
        and (number := nlm_number(ours)) is not None
        and ((other := nlm_number(theirs)) is None or other > number)
    ]
    return pa.array(outranked, pa.int64())


def changed(stored: pa.Table, rows: pa.Table) -> pa.Array:
    """The PMIDs of ``rows`` whose stored row is gone, or has another text or other metadata.

    Both have KEY_COLUMNS.
    """
    names = ("pmid", "text_digest", "metadata_digest", "source")

    def values(table: pa.Table) -> Iterator[tuple[Any, ...]]:
        return zip(*(table[n].to_pylist() for n in names), strict=True)

    held = {pmid: rest for pmid, *rest in values(stored)}
    late = []
    for pmid, digest, metadata, source in values(rows):
        text, other, file = held.get(pmid, (None, None, None))
        # Rows of version 1 have no digest of their metadata.
        if text != digest or other not in (None, metadata) or (file or "") != source:
            late.append(pmid)
    return pa.array(late, pa.int64())


def superseded(store: Store, stored: pa.Table, rows: pa.Table) -> pa.Array:
    """The PMIDs of ``rows`` of which a later file speaks than the one that they are from.

    ``stored`` are the table's rows of these PMIDs; both have ``pmid`` and ``source``.
    """
    late = Ledger(store, store.load()).superseded(rows)
    return pa.array(np.union1d(late, outranked_pmids(stored, rows)))
