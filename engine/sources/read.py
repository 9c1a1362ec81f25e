"""A shard as Arrow: its keys for planning, its citations for annotating.

Enters: a shard. Leaves: one row of keys, or batches of citations. Left to others: which citations
are wanted.

A shard is read twice. The first pass (:func:`scan_shard`) keeps only keys. From those the driver
decides which record of a PMID counts and what is settled already, *before* any model time is spent.
The second pass (:func:`read_citations`) yields just the citations that are wanted. Parsing 30,000
citations takes seconds, annotating them minutes to hours.
"""

from collections.abc import Callable, Iterator
from typing import IO

import numpy as np
import pyarrow as pa

from engine.sources.pubmed_xml import read_pubmed_xml
from engine.sources.shards import Shard, fetched_shard
from engine.sources.tabular import read_jsonl, read_parquet
from schemas.citation import (
    Citation,
    Deletion,
    Rejection,
    citations_to_batch,
    digest_metadata,
    digest_text,
)
from schemas.errors import DamagedSource

_READERS: dict[
    str, Callable[[IO[bytes], str | None], Iterator[Citation | Deletion | Rejection]]
] = {
    "pubmed-xml": lambda stream, shown: read_pubmed_xml(stream),
    "parquet": read_parquet,
    "jsonl": read_jsonl,
}
"""By format: from a stream, and the file's name where what is odd is to be logged."""

_PLACED_REASON = pa.struct([("place", pa.string()), ("reason", pa.string())])

SCAN_SCHEMA = pa.schema(
    [
        pa.field("shard", pa.int32()),
        pa.field("pmid", pa.list_(pa.int64())),
        pa.field("version", pa.list_(pa.int16())),
        pa.field("text_digest", pa.list_(pa.binary(16))),
        pa.field("metadata_digest", pa.list_(pa.int64())),
        pa.field("empty", pa.list_(pa.bool_())),
        pa.field("deleted", pa.list_(pa.int64())),
        pa.field("rejected", pa.list_(_PLACED_REASON)),
        pa.field("broken", pa.list_(pa.int64())),
        pa.field("damage", _PLACED_REASON),
        pa.field("md5", pa.string()),
    ]
)
"""One row is one shard, and ``shard`` its index in the run. The lists from ``pmid`` to ``empty``
are in file order, so that a citation is known by its position in them; ``empty`` says whether it
has no text. ``deleted`` holds the PMIDs of DeleteCitation,
``broken`` those of rejected records, as far as they are known. ``damage`` is null if all was read.
``md5`` is that of the file's bytes, in hex."""


def scan_shard(shard: Shard, index: int) -> pa.Table:
    """One row of :data:`SCAN_SCHEMA` for ``shard``, whose index in the run is ``index``, from 0.

    Raises:
        OSError: if the file cannot be read.
    """
    pmids, versions, digests, metadata, empty = [], [], [], [], []
    deleted, rejected, broken = [], [], []
    damage = None
    # An OSError is not taken for damage: the file may be whole, and its records must not be taken
    # for absent.
    with fetched_shard(shard) as (stream, md5):
        try:
            for record in _READERS[shard.format](stream, shard.shown):
                match record:
                    case Citation():
                        pmids.append(record.pmid)
                        versions.append(record.version)
                        digests.append(digest_text(record.text))
                        metadata.append(digest_metadata(record))
                        empty.append(not record.text)
                    case Deletion():
                        deleted.append(record.pmid)
                    case Rejection():
                        rejected.append({"place": record.place, "reason": record.reason})
                        broken += [] if record.pmid is None else [record.pmid]
        except DamagedSource as e:
            damage = {"place": e.place, "reason": e.cause}
    row = [index, pmids, versions, digests, metadata, empty, deleted, rejected, broken, damage, md5]
    return pa.table([pa.array([v], f.type) for v, f in zip(row, SCAN_SCHEMA, strict=True)],
                    schema=SCAN_SCHEMA)  # fmt: skip


def read_citations(
    shard: Shard, wanted: np.ndarray | None = None, batch_rows: int = 64
) -> Iterator[pa.RecordBatch]:
    """Yield batches of :data:`CITATION_SCHEMA`, in file order, of at most ``batch_rows`` rows.

    ``wanted`` is a boolean mask over the citations of the shard; with None all are wanted. Rejected
    records and damage are passed over in silence, as scanning has reported them.

    Raises:
        OSError: if the file cannot be read or is not the one that was scanned, which shows in its
            MD5 (if the shard has one) or in a number of citations other than ``wanted`` has.
    """
    batch: list[Citation] = []
    number = 0
    with fetched_shard(shard) as (stream, md5):
        if shard.md5 not in (None, md5):
            raise OSError(
                f"{shard.shown}: changed since it was planned: had MD5 {shard.md5}, has {md5}"
            )
        try:
            for record in _READERS[shard.format](stream, None):
                if not isinstance(record, Citation):
                    continue
                if wanted is None or (number < len(wanted) and wanted[number]):
                    batch.append(record)
                    if len(batch) == batch_rows:
                        yield citations_to_batch(batch, shard.name)
                        batch = []
                number += 1
        except DamagedSource:
            pass
    if wanted is not None and number != len(wanted):
        raise OSError(
            f"{shard.shown}: changed since it was planned: had {len(wanted)} citations, "
            f"has {number}"
        )
    if batch:
        yield citations_to_batch(batch, shard.name)
