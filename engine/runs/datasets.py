"""Citations as a Ray Dataset: from shards, from stored rows, or from memory.

Enters: planned shards, PMIDs of a table, or citations in memory. Leaves: citations with their
prompts, streaming; and of shards also their keys and metadata. Left to others: the engines
(pipeline.py).
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
from deltalake import DeltaTable
from ray.data import Dataset
from ray.data.block import Block, BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from engine.runs.nodes import check_paths
from engine.sources.read import SCAN_SCHEMA, read_citations, scan_shard
from engine.sources.shards import Shard
from engine.steps.annotator import Annotator
from engine.steps.prepare import prepare
from engine.tables.layout.files import between, stored_files, touched
from engine.tables.rows import read_stored
from schemas.annotations import METADATA_COLUMNS
from schemas.citation import CITATION_SCHEMA
from schemas.credentials import without_credentials
from schemas.task import Task


def scan(shards: list[Shard]) -> pa.Table:
    """Read the keys of all shards, in parallel: one row of SCAN_SCHEMA per shard, in any order.

    Raises:
        UsageError: if a node of the cluster has not all of the files.
    """
    check_paths([s.uri for s in shards])
    dataset = _read(
        [s.uri for s in shards], [partial(_scan, s, i) for i, s in enumerate(shards)], SCAN_SCHEMA
    )
    tables: list[pa.Table] = list(dataset.iter_batches(batch_size=None, batch_format="pyarrow"))
    return pa.concat_tables(t.cast(SCAN_SCHEMA) for t in tables)


def prepared(
    shards: list[Shard], wanted: list[np.ndarray], annotator: Annotator, batch_citations: int
) -> Dataset:
    """Citations of the shards with their prompts (PREPARED_SCHEMA), streaming.

    ``wanted[i]`` is a boolean mask over the citations of shard ``i``.
    """
    chosen = [(s, mask) for s, mask in zip(shards, wanted, strict=True) if mask.any()]
    reads: list[Callable[[], Iterable[Block]]] = [
        partial(_citations, shard, np.packbits(mask), len(mask), batch_citations)
        for shard, mask in chosen
    ]
    citations = _read([s.uri for s, _ in chosen], reads, CITATION_SCHEMA)
    return _prepared(citations, annotator, annotator.task, batch_citations)


def prepared_rows(
    table: DeltaTable, pmids: np.ndarray, annotator: Annotator, batch_citations: int
) -> Dataset:
    """Citations of the table with their prompts (PREPARED_SCHEMA), from their stored texts.

    ``pmids`` are sorted.
    """
    files = touched(stored_files(table), pmids)
    reads: list[Callable[[], Iterable[Block]]] = [
        partial(read_stored, table.table_uri, f.path, between(pmids, f.low, f.high),
                batch_citations)
        for f in files
    ]  # fmt: skip
    citations = _read([f.path for f in files], reads, CITATION_SCHEMA)
    return _prepared(citations, annotator, annotator.task, batch_citations)


def prepared_texts(
    citations: pa.Table, annotator: Annotator, task: Task, batch_citations: int, one_sentence: bool
) -> Dataset:
    """Citations in memory (CITATION_SCHEMA) with their prompts (PREPARED_SCHEMA), streaming.

    ``task`` is the annotator's, or some of its entity types.

    ``one_sentence``: each text is one sentence and is not split further.
    """
    starts = range(0, len(citations), batch_citations)
    blocks = [citations.slice(start, batch_citations) for start in starts]
    dataset = ray.data.from_arrow(blocks)
    return _prepared(dataset, annotator, task, batch_citations, one_sentence)


def read_metadata(shards: list[Shard], revised: list[np.ndarray]) -> Iterator[pa.Table]:
    """Yield ``pmid`` and METADATA_COLUMNS of citations of the shards, in no order.

    ``revised[i]`` is a boolean mask over the citations of shard ``i``.
    """
    chosen = [(s, mask) for s, mask in zip(shards, revised, strict=True) if mask.any()]
    schema = pa.schema([CITATION_SCHEMA.field(n) for n in ("pmid", *METADATA_COLUMNS)])
    reads: list[Callable[[], Iterable[Block]]] = [
        partial(_metadata, shard, np.packbits(mask), len(mask)) for shard, mask in chosen
    ]
    dataset = _read([s.uri for s, _ in chosen], reads, schema)
    yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow")


def count_prompts(citations: Dataset) -> tuple[int, int]:
    """How many prompts prepared citations have, and how many tokens these have in all."""
    counts = citations.map_batches(_count, batch_size=None, batch_format="pyarrow")
    tables = list(counts.iter_batches(batch_size=None, batch_format="pyarrow"))
    prompts, tokens = (
        sum(pc.sum(t[name]).as_py() or 0 for t in tables) for name in ("prompts", "tokens")
    )
    return prompts, tokens


def _prepared(
    citations: Dataset,
    annotator: Annotator,
    task: Task,
    batch_citations: int,
    one_sentence: bool = False,
) -> Dataset:
    step = partial(
        prepare,
        checkpoint_ref=annotator.checkpoint.ref,
        task_json=task.model_dump_json(),
        one_sentence=one_sentence,
        tokenizer_digest=annotator.contents.tokenizer,
    )
    return citations.map_batches(
        step, batch_size=batch_citations, batch_format="pyarrow", zero_copy_batch=True
    )


def _count(batch: pa.Table) -> pa.Table:
    prompts = pc.list_flatten(batch["prompts"])
    ids = pc.struct_field(prompts, "token_ids")
    tokens = pc.sum(pc.list_value_length(ids)).as_py() or 0
    return pa.table({"prompts": [len(prompts)], "tokens": [tokens]})


def _scan(shard: Shard, index: int) -> Iterable[Block]:
    yield scan_shard(shard, index)


def _citations(shard: Shard, packed: np.ndarray, count: int, batch_rows: int) -> Iterable[Block]:
    wanted = np.unpackbits(packed, count=count).astype(bool)
    for batch in read_citations(shard, wanted, batch_rows):
        yield pa.Table.from_batches([batch])


def _metadata(shard: Shard, packed: np.ndarray, count: int) -> Iterable[Block]:
    for table in _citations(shard, packed, count, batch_rows=1024):
        yield table.select(["pmid", *METADATA_COLUMNS])


def _read(
    uris: list[str], reads: list[Callable[[], Iterable[Block]]], schema: pa.Schema
) -> Dataset:
    return ray.data.read_datasource(
        _FileSource(uris, reads, schema), override_num_blocks=max(1, len(uris))
    )


def _metadata_of(uri: str) -> BlockMetadata:
    """What Ray is told of a file before it is read: its URI, for the statistics, but no counts."""
    return BlockMetadata(
        num_rows=None, size_bytes=None, exec_stats=None, input_files=(without_credentials(uri),)
    )


class _FileSource(Datasource):
    """A Ray Data source with one read task per file, which yields blocks while it reads."""

    def __init__(
        self, uris: list[str], reads: list[Callable[[], Iterable[Block]]], schema: pa.Schema
    ):
        super().__init__()  # type: ignore[no-untyped-call]
        self._uris, self._reads, self._schema = uris, reads, schema

    def get_name(self) -> str:
        return "Citations"

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *args: Any, **kwargs: Any) -> list[ReadTask]:
        return [
            ReadTask(read, _metadata_of(uri), schema=self._schema)
            for uri, read in zip(self._uris, self._reads, strict=True)
        ]
