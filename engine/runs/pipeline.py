"""The steps joined into one Ray Dataset: prepared citations → generate → finish.

The only module that knows all steps. Enters: prepared citations (datasets.py) and an annotator.
Leaves: finished rows, batch by batch, while the engines go on. Left to others: committing them.

Ray Data's checkpointing is not used: it skips rows by one id column, while a citation is settled by
PMID, text digest and annotator, and only a commit to the table counts as progress.
"""

import logging
import time
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
from ray.data import ActorPoolStrategy, Dataset
from ray.util.annotations import RayDeprecationWarning

from engine.backends import BACKENDS, check_arguments
from engine.backends.base import EngineSettings
from engine.checkpoints.weights import check_weights
from engine.runs.cluster import pool_resources
from engine.runs.fitting import check_fit
from engine.runs.nodes import check_backend, check_paths
from engine.steps.annotator import Annotator
from engine.steps.finish import finish
from engine.steps.generate import EngineActor
from engine.steps.losses import Watcher
from engine.steps.prepare import longest_prompt
from schemas.configs.options import EngineOptions
from schemas.engine_args import NEUTRAL
from schemas.errors import UsageError

logger = logging.getLogger(__name__)

_NEWS_S = 5.0
"""Seconds between two looks at which engines were lost."""

_SPECULATIVE_TOKENS = 4
_CONCURRENT_PROMPTS, _CONCURRENT_PROMPTS_GPU = 256, 1024
"""A GPU's cache holds far more prompts of some hundred tokens: with 60 GB left beside an 8B model,
whose cache takes 128 KB a token, more than a thousand. vLLM's own default on an H100 is 1,024."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The engines of a run: how many, and what each takes of a node.

    A batch has ``batch_citations`` citations; an engine works on ``batches`` batches at once. A
    batch is done only when its longest prompt is. So an engine needs several times the prompts that
    it runs at once, or it runs fewer while it waits for the last prompts of a batch.
    """

    min_engines: int = 1
    max_engines: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    batch_citations: int = 16
    batches: int = 8


def plan_engines(
    options: EngineOptions, annotator: Annotator, batch_citations: int = 16
) -> tuple[EngineSettings, Pool]:
    """How each engine is run, and the pool of engines, for the cluster that is connected.

    Raises:
        UsageError: if an engine fits on no node, or not the longest prompt in its context, or if a
            file of weights is damaged.
    """
    if options.backend in BACKENDS:  # another may want no weights
        check_weights(annotator.checkpoint)
    longest = longest_prompt(annotator)
    if (context := options.context_tokens or longest) < longest:
        raise UsageError(
            f"context_tokens {context}: the task's longest prompt and its completion have "
            f"{longest} tokens together; expected as many, or a smaller max_text_tokens in "
            "pubmark.json"
        )
    if context > annotator.checkpoint.context_tokens:
        raise UsageError(
            f"context_tokens {context}: checkpoint {annotator.checkpoint.ref} has a context of "
            f"{annotator.checkpoint.context_tokens} tokens; expected no more"
        )
    cpus, gpus, threads = pool_resources(options.engines.max, options.tensor_parallel_size)
    check_fit(cpus, gpus, options.node_wait_seconds)
    check_backend(options.backend)
    check_paths([annotator.checkpoint.ref])
    speculative = options.speculative_tokens
    if speculative is None:
        # On a GPU, vLLM schedules asynchronously only without guesses of this kind, and where a
        # thousand prompts keep it busy a wrong guess costs as much as a token.
        speculative = 0 if gpus else _SPECULATIVE_TOKENS
    concurrent = options.max_concurrent_prompts
    if concurrent is None:
        concurrent = _CONCURRENT_PROMPTS_GPU if gpus else _CONCURRENT_PROMPTS
    settings = EngineSettings(
        threads=threads,
        gpu=gpus > 0,
        tensor_parallel_size=options.tensor_parallel_size,
        speculative_tokens=speculative,
        max_concurrent_prompts=concurrent,
        stall_s=options.stall_seconds,
        dtype=options.dtype,
        context_tokens=context,
        # What changes an answer is the annotator's, which may be one of the table's.
        engine_args={n: v for n, v in options.engine_args.items() if n in NEUTRAL}
        | annotator.serving,
        contents=annotator.contents,
    )
    check_arguments(options.backend, settings.engine_args)
    pool = Pool(
        options.engines.min, options.engines.max, cpus, gpus, batch_citations,
        batches=max(8, concurrent // 32),  # of some 128 prompts each
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
    """Yield finished rows (FINISHED_SCHEMA) of prepared citations as they come, in no order.

    An engine that is lost is started again, as often as it takes while citations are finished in
    between (engine/steps/losses.py).

    Raises:
        ray.exceptions.RayError: if engines cannot start, or are lost and nothing is finished.
    """
    name = uuid.uuid4().hex
    rows = partial(
        finish,
        checkpoint_ref=annotator.checkpoint.ref,
        codec=annotator.task.codec,
        annotator=annotator.fingerprint,
        run_id=run_id,
        store_text=store_text,
        tokenizer_digest=annotator.contents.tokenizer,
    )
    finished = _generated(citations, annotator, backend, settings, pool, name).map_batches(
        rows, batch_size=None, batch_format="pyarrow", zero_copy_batch=True
    )
    watcher, looked = Watcher(name), time.monotonic()
    try:
        for batch in finished.iter_batches(
            batch_size=None, batch_format="pyarrow", prefetch_batches=0
        ):
            yield batch
            if time.monotonic() - looked > _NEWS_S:
                looked = time.monotonic()
                for line in watcher.news():
                    logger.warning("%s", line)
    finally:
        watcher.forget()


def _generated(
    citations: Dataset,
    annotator: Annotator,
    backend: str,
    settings: EngineSettings,
    pool: Pool,
    name: str,
) -> Dataset:
    """Citations with their completions (GENERATED_SCHEMA); the engines are those of pool ``name``.

    Ray restarts an engine that is lost, and gives it its batches again, without end: those are its
    defaults. The engines end that by themselves.
    """
    with warnings.catch_warnings():
        # How many batches an engine has at once can be said in no other way.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        return citations.map_batches(
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
            fn_constructor_kwargs={
                "backend": backend,
                "checkpoint_ref": annotator.checkpoint.ref,
                "settings": settings,
                "temperature": annotator.task.decoding.temperature,
                "pool": name,
            },
        )
