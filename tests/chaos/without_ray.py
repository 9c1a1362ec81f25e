"""The pubmark command in one process: every step of the road, but none of Ray.

    python tests/chaos/without_ray.py annotate SOURCE --to TARGET --backend …

It starts in a tenth of the time, so that what concerns the table alone can be tried far more often.
"""

import asyncio
import random
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pyarrow as pa

from engine.backends.base import EngineSettings
from engine.runs import datasets, pipeline
from engine.sources.read import read_citations, scan_shard
from engine.sources.shards import Shard
from engine.steps.annotator import Annotator
from engine.steps.finish import finish
from engine.steps.generate import EngineActor
from engine.steps.prepare import prepare
from jobs import annotate as job
from jobs.cli import main


def scan(shards: list[Shard]) -> pa.Table:
    return pa.concat_tables(scan_shard(s, i) for i, s in enumerate(shards))


def prepared(
    shards: list[Shard], wanted: list[np.ndarray], annotator: Annotator, batch_citations: int
) -> Iterator[pa.Table]:
    checkpoint, task = annotator.checkpoint.ref, annotator.task.model_dump_json()
    for shard, mask in zip(shards, wanted, strict=True):
        for batch in read_citations(shard, mask, batch_citations) if mask.any() else ():
            yield prepare(pa.Table.from_batches([batch]), checkpoint, task)


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


if __name__ == "__main__":
    reads: tuple[Any, ...] = (scan, prepared, read_metadata)
    for function in reads:
        setattr(datasets, function.__name__, function)
    pipeline.annotate = annotate
    pipeline.pool_resources = pool_resources
    job.connected = connected
    main()
