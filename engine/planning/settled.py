"""The four rules by which a row need not be written, for a batch that is about to be.

They are asked when another writer has committed between planning and committing, and tell what has
become of the plan. Of a row to commit

- :func:`settled_pmids` asks whether the table has come to hold its like: the same text by the same
  annotator;
- :func:`outranked_pmids` whether the stored row is from a later file than the one to commit;
- :func:`superseded` that, and whether a later file says anything of the PMID, if only that it is
  deleted or unchanged (for staged rows; :meth:`engine.planning.intake.Intake.superseded` asks the
  like for rows of a plan, exactly);
- :func:`changed` whether the stored row that it was made from is gone or is another now (for rows
  made anew from the table itself).

Enters: KEY_COLUMNS of stored rows, and rows to commit. Leaves: the PMIDs that are dropped. Left to
others: the same decision before any model time is spent (plan.py).
"""

from bisect import bisect_left
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.sources.nlm import nlm_number
from engine.tables.ledger import Ledger, Rank, rank_of
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
    """The PMIDs of staged ``rows`` of which a file speaks that may be later than their own.

    ``stored`` are the table's rows of these PMIDs; both have KEY_COLUMNS. A row knows its file by
    name only, and the run that has staged it did not come to take its file in. So whatever was
    taken in under that name or since counts as later, unless the row in the table is of the same
    record: the row is then merely made anew. One that is dropped in error costs the model once
    more, as its file will be given again.
    """
    ledger = Ledger(store, store.load())
    sources = rows["source"].to_pylist()
    ranks = {name: _lowest_rank(ledger, name) for name in set(sources) if name}
    names = sorted(ranks, key=ranks.__getitem__)
    index = {name: i for i, name in enumerate(names)}
    own = np.array([index.get(s, len(names)) for s in sources])
    pmids = rows["pmid"].to_numpy()
    late = np.zeros(len(rows), bool)
    after = {
        key: bisect_left([ranks[n] for n in names], rank_of(key[0], position))
        for key, position in ledger.files.items()
    }
    for position, theirs in ledger.spoken({key: i for key, i in after.items() if i}):
        late |= (own < position) & np.isin(pmids, theirs)
    newest = ledger.baseline or 0
    years = {name: n[0] if (n := nlm_number(name)) else newest for name in names}
    late |= np.array([years.get(s, newest) < newest for s in sources], bool)
    late &= ~np.isin(pmids, _of_same_record(stored, rows))
    return pa.array(np.union1d(pmids[late], outranked_pmids(stored, rows)), pa.int64())


def _lowest_rank(ledger: Ledger, name: str) -> Rank:
    """A rank below which no file of this name counts."""
    if nlm_number(name):
        return rank_of(name, 0)
    taken_in = [position for (known, _), position in ledger.files.items() if known == name]
    return rank_of(name, min(taken_in) - 1 if taken_in else None)


def _of_same_record(stored: pa.Table, rows: pa.Table) -> np.ndarray:
    """The PMIDs whose row in the table is of the same record as that of ``rows``."""
    names = ("pmid", "text_digest", "metadata_digest", "source")
    held, ours = (set(zip(*(t[n].to_pylist() for n in names), strict=True)) for t in (stored, rows))
    return np.array([pmid for pmid, *_ in held & ours], np.int64)
