"""Annotations to files that other programs read: Parquet, JSONL, PubTator, BioC JSON.

Enters: a table's rows, batch by batch, in the order in which it stores them. Leaves: bytes. No more
than a batch is in memory at a time. Left to others: opening the file that is written, and what to
do if it exists (engine/storage/whole_file.py).
"""

import gzip
import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable

from engine.tables.reading import open_dataset
from schemas.annotations import ANNOTATIONS_SCHEMA, MENTION
from schemas.errors import UsageError

COLUMNS = {
    "parquet": ["pmid", "mentions"],
    "jsonl": ["pmid", "mentions"],
    "pubtator": ["pmid", "text", "title_length", "mentions"],
    "bioc-json": ["pmid", "text", "title_length", "mentions"],
}
"""The columns of the annotations table that each format is made from."""

MENTIONS_SCHEMA = pa.schema([ANNOTATIONS_SCHEMA.field("pmid"), *MENTION])
"""The flat view: one row is one mention, with its citation's ``pmid``."""

_BATCH_ROWS = 2048
_BUFFER_BYTES = 1 << 20
_ROW_GROUP_ROWS = 131_072
# For a mention without identifier. If the last column were empty, a reader that strips lines would
# see one column less, which is how PubTator writes a relation.
_NO_IDENTIFIER = "-1"


def scan_batches(table: DeltaTable, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """All rows of the annotations table, some of its columns, file by file."""
    for fragment in open_dataset(table).get_fragments():
        with fragment.filesystem.open_input_file(fragment.path) as file:
            # A dataset's own scan decodes a row group, often all of a file, at once: 1.1 GB for
            # 200,000 citations, against 0.24 GB.
            parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES)
            yield from parquet.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False)


def write(batches: Iterable[pa.RecordBatch], form: str, out: BinaryIO, zipped: bool) -> None:
    """Write rows with :data:`COLUMNS` of ``form`` to ``out``, gzipped if asked for and text.

    Raises:
        UsageError: if ``form`` prints the text and a row has none.
    """
    if form == "parquet":
        _write_parquet(batches, out)
    elif zipped:
        with gzip.GzipFile("", "wb", compresslevel=6, fileobj=out, mtime=0) as file:
            file.writelines(piece.encode() for piece in _print(batches, form))
    else:
        out.writelines(piece.encode() for piece in _print(batches, form))


def _write_parquet(batches: Iterable[pa.RecordBatch], out: BinaryIO) -> None:
    with pq.ParquetWriter(out, MENTIONS_SCHEMA, compression="zstd") as writer:
        waiting: list[pa.RecordBatch] = []
        for batch in batches:
            waiting.append(_flatten(batch))
            if sum(map(len, waiting)) >= _ROW_GROUP_ROWS:
                writer.write_table(pa.Table.from_batches(waiting))
                waiting = []
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting))


def _print(batches: Iterable[pa.RecordBatch], form: str) -> Iterator[str]:
    if form == "jsonl":
        return _print_jsonl(batches)
    rows = _with_text(batches, form)
    return _print_pubtator(rows) if form == "pubtator" else _print_bioc(rows)


def _flatten(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Rows of :data:`MENTIONS_SCHEMA`."""
    lists = batch["mentions"]
    pmids = batch["pmid"].take(pc.list_parent_indices(lists))
    mentions = lists.flatten()
    fields = [mentions.field(f.name) for f in MENTION]
    return pa.RecordBatch.from_arrays([pmids, *fields], schema=MENTIONS_SCHEMA)


def _print_jsonl(batches: Iterable[pa.RecordBatch]) -> Iterator[str]:
    position = MENTIONS_SCHEMA.get_field_index("score")
    for batch in batches:
        flat = _flatten(batch)
        # By way of strings, 0.9 is not printed as 0.8999999761581421.
        score = flat["score"].cast(pa.string()).cast(pa.float64())
        for row in flat.set_column(position, "score", score).to_pylist():
            yield json.dumps(row, ensure_ascii=False) + "\n"


def _with_text(batches: Iterable[pa.RecordBatch], form: str) -> Iterator[dict[str, Any]]:
    for batch in batches:
        for row in batch.to_pylist():
            if row["text"] is None:
                raise UsageError(
                    f"PMID {row['pmid']}: its text is not stored (--no-text), and {form} prints "
                    "it; expected --format parquet or jsonl"
                )
            # Null in a row that another program added.
            length = len(row["text"]) if row["title_length"] is None else row["title_length"]
            yield row | {"title_length": length, "mentions": row["mentions"] or []}


def _print_pubtator(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        pmid, text = row["pmid"], row["text"]
        title = row["title_length"]
        lines = [f"{pmid}|t|{text[:title]}", f"{pmid}|a|{text[title + 1 :]}"]
        for m in row["mentions"]:
            identifier = m["identifier"] or _NO_IDENTIFIER
            values = (pmid, m["start"], m["end"], m["text"], m["entity_type"], identifier)
            lines.append("\t".join(map(str, values)))
        yield "\n".join(lines) + "\n\n"


def _print_bioc(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    yield '{"source": "PubMed", "date": "", "key": "", "infons": {}, "documents": ['
    separator = "\n"
    for row in rows:
        yield separator + json.dumps(_bioc_document(row), ensure_ascii=False)
        separator = ",\n"
    yield "\n]}\n"


def _bioc_document(row: dict[str, Any]) -> dict[str, Any]:
    """Offsets count from the start of the citation's text, as ours do."""
    text, title = row["text"], row["title_length"]
    parts = [("title", 0, title)]
    if title < len(text):
        parts.append(("abstract", title + 1, len(text)))
    annotations = [(m, _bioc_annotation(i, m)) for i, m in enumerate(row["mentions"])]
    passages = [
        {
            "infons": {"type": name},
            "offset": start,
            "text": text[start:end],
            "sentences": [],
            "annotations": [a for m, a in annotations if (m["start"] > title) == (start > title)],
            "relations": [],
        }
        for name, start, end in parts
    ]
    return {"id": str(row["pmid"]), "infons": {}, "passages": passages, "relations": []}


def _bioc_annotation(number: int, mention: dict[str, Any]) -> dict[str, Any]:
    start, end = mention["start"], mention["end"]
    infons = {"type": mention["entity_type"], "identifier": mention["identifier"]}
    if mention["score"] is not None:
        infons["score"] = str(np.float32(mention["score"]))
    infons["grade"] = mention["grade"]
    return {
        "id": str(number),
        "infons": {name: value for name, value in infons.items() if value is not None},
        "text": mention["text"],
        "locations": [{"offset": start, "length": end - start}],
    }
