"""Citations that the annotations table holds: which ones, and their texts, to be read again.

Enters: a version of the table. Leaves: PMIDs, counts by annotator, and citations as if they had
come from a file. Left to others: annotating them.

A citation whose text is not stored (``--no-text``) cannot be read from here.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable
from pyarrow.dataset import Dataset, dataset

from engine.tables.layout.files import (
    NO_PMIDS,
    STORED_SCHEMA,
    StoredFile,
    as_stored,
    filesystem,
    stored_files,
    with_pmids,
)
from engine.tables.reading import open_dataset
from schemas.citation import CITATION_SCHEMA, Citation, digest_metadata

_PLACES = 32
"""Row groups that a sample is drawn from, at most: each is read whole, some 40 MB."""


@dataclass(frozen=True, slots=True)
class Selection:
    """PMIDs of stored rows, sorted; ``textless`` counts those left out for want of a text."""

    pmids: np.ndarray
    textless: int = 0


def count_annotators(table: DeltaTable) -> Counter[str]:
    """How many rows each annotator has. A file whose statistics say that all its rows are of one
    annotator is not read."""
    counts: Counter[str] = Counter()
    for file, annotator in _files(table):
        if annotator is not None:
            counts[annotator] += file.rows
        else:
            column = _open(table, file.path).to_table(["annotator"])
            counts.update(column["annotator"].to_pylist())
    return counts


def stale(table: DeltaTable, annotator: str, limit: int) -> Selection:
    """The first ``limit`` rows, by file and PMID, that are of another annotator and have a text.

    They stand in few files, so that to replace them is cheap.
    """
    found, count, textless = [NO_PMIDS], 0, 0
    for file, only in _files(table):
        if count >= limit:
            break
        if only == annotator:
            continue
        rows = _open(table, file.path).to_table(
            columns={"pmid": pc.field("pmid"), "has_text": pc.field("text").is_valid()},
            filter=_plain("annotator") != annotator,
        )
        pmids = np.sort(rows.filter(rows["has_text"])["pmid"].to_numpy())[: limit - count]
        textless += len(rows) - (pc.sum(rows["has_text"]).as_py() or 0)
        count += len(pmids)
        found.append(pmids)
    return Selection(np.sort(np.concatenate(found)), textless)


def with_status(
    table: DeltaTable,
    statuses: Collection[str],
    reason: str | None = None,
    pmids: Collection[int] | None = None,
) -> Selection:
    """The rows of some statuses; ``reason`` is a part of their ``error``, whatever its case."""
    condition = _plain("status").isin(pa.array(sorted(statuses), pa.string()))
    if pmids is not None:
        condition &= with_pmids(np.unique(np.array(list(pmids), np.int64)))
    if reason:
        condition &= pc.match_substring(_plain("error"), reason, ignore_case=True)
    data = open_dataset(table)
    every = np.sort(data.to_table(columns=["pmid"], filter=condition)["pmid"].to_numpy())
    if not len(every):
        return Selection(every)
    readable = data.to_table(
        columns=["pmid"], filter=with_pmids(every) & pc.field("text").is_valid()
    )
    held = np.sort(readable["pmid"].to_numpy())
    return Selection(held, len(every) - len(held))


def sample(table: DeltaTable, annotator: str, count: int, seed: int) -> pa.Table:
    """About ``count`` rows of an annotator with a text and status ``ok``, the same for a seed, from
    several places of the table, by PMID: CITATION_SCHEMA and ``mentions``."""
    rng = np.random.default_rng(seed)
    fs = filesystem(table)
    groups = []
    files = [f for f, only in _files(table) if only in (None, annotator)]
    for i in rng.permutation(len(files))[:_PLACES]:
        with fs.open_input_file(files[i].path) as stream:
            number = pq.ParquetFile(stream).num_row_groups
        groups += [(files[i].path, g) for g in range(number)]
    groups = [groups[i] for i in rng.permutation(len(groups))[:_PLACES]]
    parts: list[pa.Table] = []
    taken = 0
    wanted = (
        (pc.field("annotator") == annotator)
        & (pc.field("status") == "ok")
        & pc.field("text").is_valid()
    )
    for at, (path, group) in enumerate(groups):
        with fs.open_input_file(path) as stream:
            rows = as_stored(pq.ParquetFile(stream).read_row_group(group)).filter(wanted)
        share = -(-(count - taken) // (len(groups) - at))
        parts.append(rows.take(np.sort(rng.permutation(len(rows))[:share])))
        taken += len(parts[-1])
    if not parts:
        return no_citations()
    return _as_citations(pa.concat_tables(parts, promote_options="default")).sort_by("pmid")


def no_citations() -> pa.Table:
    """None of CITATION_SCHEMA."""
    return CITATION_SCHEMA.empty_table()


def read_stored(uri: str, path: str, pmids: np.ndarray, batch_rows: int) -> Iterator[pa.Table]:
    """Citations (CITATION_SCHEMA) of one file of the table at ``uri``, those of ``pmids``."""
    data = _open(DeltaTable(uri), path)
    for batch in data.to_batches(columns=CITATION_SCHEMA.names, filter=with_pmids(pmids)):
        rows = _as_citations(pa.Table.from_batches([batch])).select(CITATION_SCHEMA.names)
        for start in range(0, len(rows), batch_rows):
            yield rows.slice(start, batch_rows)


def _open(table: DeltaTable, path: str) -> Dataset:
    """One file of the table. Columns that it does not have are null."""
    # With the schema, as Arrow does not take rows out of the view types that delta-rs writes.
    return dataset(path, schema=STORED_SCHEMA, format="parquet", filesystem=filesystem(table))


def _plain(column: str) -> pc.Expression:
    """A column of strings, to filter by: as it is, Arrow does not compare the view types that
    delta-rs writes."""
    return pc.field(column).cast(pa.string())


def _files(table: DeltaTable) -> Iterator[tuple[StoredFile, str | None]]:
    """The files by lowest PMID, and the annotator of all rows of each, if it says that."""
    actions = pa.table(table.get_add_actions(flatten=True))
    only: dict[str, str | None] = {}
    if {"min.annotator", "max.annotator"} <= set(actions.column_names):
        columns = (actions[n].to_pylist() for n in ("path", "min.annotator", "max.annotator"))
        only = {path: low for path, low, high in zip(*columns, strict=True) if low == high}
    for file in stored_files(table):
        yield file, only.get(file.path)


def _as_citations(rows: pa.Table) -> pa.Table:
    """Stored rows as CITATION_SCHEMA; ``mentions`` stay, if they are there."""
    plain = rows.drop_columns(["mentions"]) if "mentions" in rows.column_names else rows
    made = [_citation(row) for row in plain.to_pylist()]
    found = pa.Table.from_pylist(made, schema=CITATION_SCHEMA)
    if "mentions" in rows.column_names:
        found = found.append_column("mentions", rows["mentions"])
    return found


def _citation(row: dict[str, Any]) -> dict[str, Any]:
    text = row["text"]
    values: dict[str, Any] = {name: row.get(name) for name in CITATION_SCHEMA.names}
    values["version"] = 1 if values["version"] is None else values["version"]
    values["source"] = values["source"] or ""
    if values["title_length"] is None:
        values["title_length"] = len(text)
    if values["metadata_digest"] is None:  # of a table of version 1
        citation = Citation(
            pmid=row["pmid"],
            text=text,
            title_length=values["title_length"],
            version=values["version"],
            pub_year=values["pub_year"],
            journal=values["journal"],
            language=values["language"],
            doi=values["doi"],
            publication_types=values["publication_types"] or [],
        )
        values["metadata_digest"] = digest_metadata(citation)
    return values
