"""Prompts to completions: the actor that keeps one engine busy.

Reads PREPARED_SCHEMA; replaces the prompts' token ids by ``completions`` and adds the columns that
the run's figures are counted from (GENERATED_SCHEMA). Ray calls the actor for several batches at
once, so that the engine gets prompts of the next batch before the last prompt of this one is done.

``ray.data.llm`` offers such an actor too, for vLLM and SGLang, but none for our ``transformers``
backend. With vLLM this one makes 1.007 times its prompts a second at 100 million parameters, where
a round varies by 3%, and 1.11 times with nano (bench/pipeline.py, docs/measurements.md).
"""

import asyncio
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from engine.backends import backend_class
from engine.backends.base import Completion, EngineSettings
from engine.checkpoints.load import load_checkpoint
from engine.steps.prepare import PREPARED_SCHEMA
from schemas.errors import EngineDied

logger = logging.getLogger(__name__)

COMPLETION = pa.struct(
    [
        ("token_ids", pa.list_(pa.int32())),
        ("logprobs", pa.list_(pa.float32())),
        ("finish", pa.string()),
        ("error", pa.string()),
    ]
)

_PROMPT = PREPARED_SCHEMA.field("prompts").type.value_type

GENERATED_SCHEMA = pa.schema(
    [
        *(f for f in PREPARED_SCHEMA if f.name != "prompts"),
        pa.field("prompts", pa.list_(pa.struct([f for f in _PROMPT if f.name != "token_ids"]))),
        pa.field("completions", pa.list_(COMPLETION)),
        pa.field("prompt_tokens", pa.int64()),
        pa.field("completion_tokens", pa.int64()),
        pa.field("engine", pa.string()),
        pa.field("engine_start_seconds", pa.float64()),
        pa.field("started", pa.float64()),
        pa.field("finished", pa.float64()),
    ]
)
"""``completions[i]`` answers ``prompts[i]``; its ``error`` is set if the prompt failed. The
citation's batch was with its ``engine`` from ``started`` to ``finished``, in Unix seconds."""


class EngineActor:
    """One engine as a Ray Data actor: made once, called with batch after batch."""

    def __init__(
        self, backend: str, checkpoint_ref: str, settings: EngineSettings, temperature: float
    ):
        began = time.time()
        self._name = f"{os.uname().nodename}-{uuid.uuid4().hex[:6]}"
        self._backend = backend_class(backend)(
            load_checkpoint(checkpoint_ref), settings, temperature
        )
        self._start_seconds = time.time() - began
        self._watch = _Watch(settings.stall_s)

    def __del__(self) -> None:
        # Ray deletes the actor's object when it ends the actor regularly.
        if hasattr(self, "_backend"):
            self._backend.close()

    async def __call__(self, batch: pa.Table) -> pa.Table:
        """Complete all prompts of a batch. A prompt that fails leaves the others as they are."""
        started = time.time()
        prompts = batch["prompts"].combine_chunks()
        flat = prompts.flatten()
        ids = flat.field("token_ids").to_pylist()
        limits = flat.field("max_tokens").to_pylist()
        results = await asyncio.gather(
            *(self._complete(i, m) for i, m in zip(ids, limits, strict=True))
        )
        counts = pc.list_value_length(prompts).to_pylist()
        prompt_tokens = _sums([len(i) for i in ids], counts)
        completion_tokens = _sums([len(r["token_ids"] or ()) for r in results], counts)
        rows = len(batch)
        columns: dict[str, Any] = {n: batch[n] for n in batch.column_names if n != "prompts"}
        columns["prompts"] = _without_token_ids(prompts)
        columns["completions"] = pa.ListArray.from_arrays(
            _offsets(counts), pa.array(results, COMPLETION)
        )
        columns["prompt_tokens"] = pa.array(prompt_tokens, pa.int64())
        columns["completion_tokens"] = pa.array(completion_tokens, pa.int64())
        columns["engine"] = pa.array([self._name] * rows, pa.string())
        columns["engine_start_seconds"] = pa.array([self._start_seconds] * rows, pa.float64())
        columns["started"] = pa.array([started] * rows, pa.float64())
        columns["finished"] = pa.array([time.time()] * rows, pa.float64())
        return pa.table([columns[n] for n in GENERATED_SCHEMA.names], schema=GENERATED_SCHEMA)

    async def _complete(self, token_ids: list[int], max_tokens: int) -> dict[str, Any]:
        try:
            with self._watch.waiting():
                done: Completion = await self._backend.generate(token_ids, max_tokens)
        except EngineDied as e:
            _die(str(e))
        except Exception as e:
            return {"token_ids": None, "logprobs": None, "finish": None,
                    "error": f"{type(e).__name__}: {e}"}  # fmt: skip
        return {"token_ids": list(done.token_ids), "logprobs": list(done.logprobs),
                "finish": done.finish, "error": None}  # fmt: skip


class _Watch:
    """Ends the process if its engine has prompts and has answered none for ``stall_s`` seconds.

    It watches from a thread, since an engine that hangs may block the event loop too.
    """

    def __init__(self, stall_s: float):
        self._stall_s = stall_s
        self._in_flight = 0
        self._last_answer = time.monotonic()
        threading.Thread(target=self._run, daemon=True).start()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within the block one prompt is with the engine."""
        if not self._in_flight:
            self._last_answer = time.monotonic()
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1
            self._last_answer = time.monotonic()

    def _run(self) -> None:
        while True:
            time.sleep(self._stall_s / 10)
            if self._in_flight and time.monotonic() - self._last_answer > self._stall_s:
                _die(f"{self._in_flight} prompts and no answer for {self._stall_s:.0f} s")


def _die(reason: str) -> NoReturn:
    """End this actor's process.

    Ray replaces an actor only if its process dies: an exception would not do. Ray then runs the
    actor's batches again, a bounded number of times.
    """
    logger.error("engine given up: %s", reason)
    os._exit(1)


def _without_token_ids(prompts: pa.ListArray) -> pa.ListArray:
    kind = GENERATED_SCHEMA.field("prompts").type
    flat = prompts.flatten()
    fields = list(kind.value_type)
    structs = pa.StructArray.from_arrays([flat.field(f.name) for f in fields], fields=fields)
    return pa.ListArray.from_arrays(
        _offsets(pc.list_value_length(prompts).to_pylist()), structs, type=kind
    )


def _offsets(counts: list[int]) -> pa.Array:
    offsets = [0]
    for count in counts:
        offsets.append(offsets[-1] + count)
    return pa.array(offsets, pa.int32())


def _sums(values: list[int], counts: list[int]) -> list[int]:
    """The sums of consecutive slices of ``values``, whose lengths are ``counts``."""
    sums, start = [], 0
    for count in counts:
        sums.append(sum(values[start : start + count]))
        start += count
    return sums
