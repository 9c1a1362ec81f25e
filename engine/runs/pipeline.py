"""The steps joined into one Ray Dataset: read → prepare → generate → finish.

The only module that knows all steps. Enters: planned shards and an annotator. Leaves: finished
rows, batch by batch, while the engines go on. Left to others: committing them.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
from deltalake import DeltaTable
from ray.data import ActorPoolStrategy, Dataset
from ray.data.block import Block, BlockMetadata
from ray.data.datasource import Datasource, ReadTask
from ray.util.annotations import RayDeprecationWarning

from engine.backends.base import EngineSettings
from engine.runs.cluster import pool_resources
from engine.sources.read import SCAN_SCHEMA, read_citations, scan_shard
from engine.sources.shards import Shard
from engine.steps.annotator import Annotator
from engine.steps.finish import finish
from engine.steps.generate import EngineActor
from engine.steps.prepare import prepare
from engine.tables.layout.files import between, stored_files, touched
from engine.tables.rows import read_stored
from schemas.annotations import METADATA_COLUMNS
from schemas.citation import CITATION_SCHEMA
from schemas.configs.load import EngineOptions
from schemas.task import Task

MAX_RETRIES = 3
"""How often a dead engine is replaced and its batches are run again; Ray's default is for ever."""

_SPECULATIVE_TOKENS = 4


@dataclass(frozen=True, slots=True)
class Pool:
    """The engines of a run: at least, at most, and what each takes of a node.

    ``batch_citations`` travel together; an engine has ``batches`` of them at once. A batch is done
    when the longest of its prompts is, so there must be several times the prompts that an engine
    runs at once, or it runs fewer of them while it waits for the last ones of a batch.
    """

    min_engines: int = 1
    max_engines: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    batch_citations: int = 16
    batches: int = 8


def plan_engines(options: EngineOptions, batch_citations: int = 16) -> tuple[EngineSettings, Pool]:
    """How each engine is run and how many there are, on the cluster that is connected."""
    cpus, gpus, threads = pool_resources(options.engines.max, options.tensor_parallel_size)
    speculative = options.speculative_tokens
    settings = EngineSettings(
        threads=threads,
        gpu=gpus > 0,
        tensor_parallel_size=options.tensor_parallel_size,
        speculative_tokens=_SPECULATIVE_TOKENS if speculative is None else speculative,
        max_concurrent_prompts=options.max_concurrent_prompts,
        stall_s=options.stall_seconds,
        dtype=options.dtype,
    )
    pool = Pool(
        options.engines.min, options.engines.max, cpus, gpus, batch_citations,
        batches=max(8, options.max_concurrent_prompts // 32),  # of some 128 prompts
    )  # fmt: skip
    return settings, pool


def scan(shards: list[Shard]) -> pa.Table:
    """The keys of all shards, one row of SCAN_SCHEMA each, read in parallel."""
    dataset = _read(
        [s.uri for s in shards], [partial(_scan, s, i) for i, s in enumerate(shards)], SCAN_SCHEMA
    )
    tables = list(dataset.iter_batches(batch_size=None, batch_format="pyarrow"))
    return pa.concat_tables(t.cast(SCAN_SCHEMA) for t in tables)


def prepared(
    shards: list[Shard], wanted: list[np.ndarray], annotator: Annotator, batch_citations: int
) -> Dataset:
    """The wanted citations of the shards with their prompts (PREPARED_SCHEMA), streaming."""
    chosen = [(s, mask) for s, mask in zip(shards, wanted, strict=True) if mask.any()]
    reads: list[Callable[[], Iterable[Block]]] = [
        partial(_citations, shard, np.packbits(mask), len(mask), batch_citations)
        for shard, mask in chosen
    ]
    citations = _read([s.uri for s, _ in chosen], reads, CITATION_SCHEMA)
    return _prepared(citations, annotator.checkpoint.ref, annotator.task, batch_citations)


def prepared_rows(
    table: DeltaTable, pmids: np.ndarray, annotator: Annotator, batch_citations: int
) -> Dataset:
    """Citations of the table (``pmids``, sorted) with their prompts, from their stored texts."""
    files = touched(stored_files(table), pmids)
    reads: list[Callable[[], Iterable[Block]]] = [
        partial(read_stored, table.table_uri, f.path, between(pmids, f.low, f.high),
                batch_citations)
        for f in files
    ]  # fmt: skip
    citations = _read([f.path for f in files], reads, CITATION_SCHEMA)
    return _prepared(citations, annotator.checkpoint.ref, annotator.task, batch_citations)


def prepared_texts(
    citations: pa.Table, checkpoint_ref: str, task: Task, batch_citations: int, one_sentence: bool
) -> Dataset:
    """Citations that are held in memory (CITATION_SCHEMA) with their prompts, streaming.

    ``one_sentence``: each text is one sentence, which is not split further.
    """
    starts = range(0, len(citations), batch_citations)
    blocks = [citations.slice(start, batch_citations) for start in starts]
    dataset = ray.data.from_arrow(blocks)
    return _prepared(dataset, checkpoint_ref, task, batch_citations, one_sentence)


def read_metadata(shards: list[Shard], revised: list[np.ndarray]) -> Iterator[pa.Table]:
    """Yield ``pmid`` and METADATA_COLUMNS of the revised citations of the shards, in no order."""
    chosen = [(s, mask) for s, mask in zip(shards, revised, strict=True) if mask.any()]
    schema = pa.schema([CITATION_SCHEMA.field(n) for n in ("pmid", *METADATA_COLUMNS)])
    reads: list[Callable[[], Iterable[Block]]] = [
        partial(_metadata, shard, np.packbits(mask), len(mask)) for shard, mask in chosen
    ]
    dataset = _read([s.uri for s, _ in chosen], reads, schema)
    yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow")


def count_prompts(citations: Dataset) -> tuple[int, int]:
    """How many prompts prepared citations make, and how many prompt tokens."""
    counts = citations.map_batches(_count, batch_size=None, batch_format="pyarrow")
    tables = list(counts.iter_batches(batch_size=None, batch_format="pyarrow"))
    prompts, tokens = (
        sum(pc.sum(t[name]).as_py() or 0 for t in tables) for name in ("prompts", "tokens")
    )
    return prompts, tokens


def annotate(
    citations: Dataset,
    annotator: Annotator,
    backend: str,
    settings: EngineSettings,
    pool: Pool,
    run_id: str,
    store_text: bool,
) -> Iterator[pa.Table]:
    """Yield finished rows (FINISHED_SCHEMA) of prepared citations, in no order, as they come.

    Raises:
        ray.exceptions.RayError: if engines died more often than MAX_RETRIES.
    """
    with warnings.catch_warnings():
        # Bounded restarts have no other way in: the parameters that Ray names do not cover them.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        generated = citations.map_batches(
            EngineActor,
            batch_size=pool.batch_citations,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ActorPoolStrategy(
                min_size=pool.min_engines,
                max_size=pool.max_engines,
                max_tasks_in_flight_per_actor=pool.batches + 2,
            ),
            max_concurrency=pool.batches,
            num_cpus=pool.cpus,
            num_gpus=pool.gpus,
            max_restarts=MAX_RETRIES,
            max_task_retries=MAX_RETRIES,
            fn_constructor_kwargs={
                "backend": backend,
                "checkpoint_ref": annotator.checkpoint.ref,
                "settings": settings,
                "temperature": annotator.task.decoding.temperature,
            },
        )
    finished = generated.map_batches(
        finish,
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        fn_kwargs={
            "checkpoint_ref": annotator.checkpoint.ref,
            "codec": annotator.task.codec,
            "annotator": annotator.fingerprint,
            "run_id": run_id,
            "store_text": store_text,
        },
    )
    yield from finished.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


def _prepared(
    citations: Dataset,
    checkpoint_ref: str,
    task: Task,
    batch_citations: int,
    one_sentence: bool = False,
) -> Dataset:
    return citations.map_batches(
        prepare,
        batch_size=batch_citations,
        batch_format="pyarrow",
        zero_copy_batch=True,
        fn_kwargs={
            "checkpoint_ref": checkpoint_ref,
            "task_json": task.model_dump_json(),
            "one_sentence": one_sentence,
        },
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


class _FileSource(Datasource):
    """One read task per file, which yields blocks while it reads."""

    def __init__(
        self, uris: list[str], reads: list[Callable[[], Iterable[Block]]], schema: pa.Schema
    ):
        super().__init__()
        self._uris, self._reads, self._schema = uris, reads, schema

    def get_name(self) -> str:
        return "Citations"

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *args: Any, **kwargs: Any) -> list[ReadTask]:
        return [
            ReadTask(read, BlockMetadata(None, None, None, (uri,)), schema=self._schema)
            for uri, read in zip(self._uris, self._reads, strict=True)
        ]
