"""The steps joined into one Ray Dataset: read → prepare → generate → finish.

The only module that knows all steps. Enters: planned shards and an annotator. Leaves: finished
rows, batch by batch, while the engines go on. Left to others: committing them.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
from ray.data import ActorPoolStrategy, Dataset
from ray.util.annotations import RayDeprecationWarning

from engine.backends.base import EngineSettings
from engine.runs.cluster import pool_resources
from engine.steps.annotator import Annotator
from engine.steps.finish import finish
from engine.steps.generate import EngineActor
from schemas.configs.options import EngineOptions

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
    rows = partial(
        finish,
        checkpoint_ref=annotator.checkpoint.ref,
        codec=annotator.task.codec,
        annotator=annotator.fingerprint,
        run_id=run_id,
        store_text=store_text,
    )
    finished = generated.map_batches(
        rows, batch_size=None, batch_format="pyarrow", zero_copy_batch=True
    )
    yield from finished.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
