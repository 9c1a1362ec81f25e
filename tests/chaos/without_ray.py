"""The pubmark command in one process: every step of the road, but none of Ray.

    python tests/chaos/without_ray.py annotate SOURCE --to TARGET --backend …

It starts in a tenth of the time, so that what concerns the table alone can be tried far more often.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

import jobs.annotate
import jobs.cli
import jobs.compare
import jobs.evaluate
import jobs.replay
from engine.backends.base import EngineSettings
from engine.runs import datasets, pipeline
from engine.sources.read import read_citations, scan_shard
from engine.sources.shards import Shard
from engine.steps.annotator import Annotator
from engine.steps.finish import finish
from engine.steps.generate import EngineActor
from engine.steps.prepare import prepare
from engine.tables.layout.files import between, stored_files, touched
from engine.tables.rows import read_stored
from schemas.task import Task


def scan(shards: list[Shard]) -> pa.Table:
    return pa.concat_tables(scan_shard(s, i) for i, s in enumerate(shards))


def prepared(
    shards: list[Shard], wanted: list[np.ndarray], annotator: Annotator, batch_citations: int
) -> Iterator[pa.Table]:
    checkpoint, task = annotator.checkpoint.ref, annotator.task.model_dump_json()
    for shard, mask in zip(shards, wanted, strict=True):
        for batch in read_citations(shard, mask, batch_citations) if mask.any() else ():
            yield prepare(pa.Table.from_batches([batch]), checkpoint, task)


def prepared_rows(
    table: DeltaTable, pmids: np.ndarray, annotator: Annotator, batch_citations: int
) -> Iterator[pa.Table]:
    checkpoint, task = annotator.checkpoint.ref, annotator.task.model_dump_json()
    for file in touched(stored_files(table), pmids):
        wanted = between(pmids, file.low, file.high)
        for batch in read_stored(table.table_uri, file.path, wanted, batch_citations):
            yield prepare(batch, checkpoint, task)


class Batches(list[pa.Table]):
    """Prepared citations that can be joined with others, as a dataset can."""

    def union(self, *others: Iterable[pa.Table]) -> Iterable[pa.Table]:
        return itertools.chain(self, *others)


def prepared_texts(
    citations: pa.Table, annotator: Annotator, task: Task, batch_citations: int, one_sentence: bool
) -> Batches:
    batches = (
        citations.slice(i, batch_citations) for i in range(0, len(citations), batch_citations)
    )
    return Batches(
        prepare(b, annotator.checkpoint.ref, task.model_dump_json(), one_sentence) for b in batches
    )


def count_prompts(citations: Iterable[pa.Table]) -> tuple[int, int]:
    counts = pa.concat_tables([datasets._count(batch) for batch in citations])
    return pc.sum(counts["prompts"]).as_py(), pc.sum(counts["tokens"]).as_py()


def annotate(
    citations: Iterable[pa.Table],
    annotator: Annotator,
    backend: str,
    settings: EngineSettings,
    pool: pipeline.Pool,
    run_id: str,
    store_text: bool,
) -> Iterator[pa.Table]:
    task, ref = annotator.task, annotator.checkpoint.ref
    engine = EngineActor(backend, ref, settings, task.decoding.temperature)
    for batch in citations:
        time.sleep(random.uniform(0, 0.05))  # two at once are to take turns
        done = asyncio.run(engine(batch))
        yield finish(done, ref, task.codec, annotator.fingerprint, run_id, store_text)


def read_metadata(shards: list[Shard], revised: list[np.ndarray]) -> Iterator[pa.Table]:
    for shard, mask in zip(shards, revised, strict=True):
        if mask.any():
            yield from datasets._metadata(shard, np.packbits(mask), len(mask))


def connected(verbose: bool = False) -> AbstractContextManager[None]:
    return nullcontext()


def pool_resources(max_engines: int, tensor_parallel_size: int) -> tuple[float, float, int]:
    return 1.0, 0.0, 1


def replace(put: Callable[[object, str, Any], None] = setattr) -> None:
    """Put the functions of this module in the place of those that need Ray, by ``put``."""
    reads: tuple[Any, ...] = (
        scan, prepared, prepared_rows, prepared_texts, read_metadata, count_prompts,
    )  # fmt: skip
    for function in reads:
        put(datasets, function.__name__, function)
    put(pipeline, "annotate", annotate)
    put(pipeline, "pool_resources", pool_resources)
    for job in (jobs.annotate, jobs.compare, jobs.evaluate, jobs.replay):
        put(job, "connected", connected)


if __name__ == "__main__":
    replace()
    jobs.cli.main()
