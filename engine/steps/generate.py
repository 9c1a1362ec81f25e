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
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from engine.backends import backend_class
from engine.backends.base import Completion, EngineSettings
from engine.backends.causes import Printed, cause_of
from engine.backends.orphans import end_children, end_with_this_process
from engine.checkpoints.contents import check_same, load_same
from engine.steps.losses import GIVEN_UP_AFTER, Losses
from engine.steps.prepare import PREPARED_SCHEMA
from schemas.errors import EngineDied, JobError, PubmarkError

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
    """One engine as a Ray Data actor: made once, called with batch after batch.

    ``pool`` names the engines of the run, which share a memory of those that were lost.

    Raises:
        EngineLost: if it was lost too often in a row.
        JobError: if the checkpoint is not the one that the run was planned with, or cannot be
            served; the message says why.
    """

    def __init__(
        self,
        backend: str,
        checkpoint_ref: str,
        settings: EngineSettings,
        temperature: float,
        pool: str | None = None,
    ):
        began = time.time()
        self._losses = Losses(pool)
        self._losses.start()
        self._name = f"{os.uname().nodename}-{uuid.uuid4().hex[:6]}"
        checkpoint = load_same(checkpoint_ref, settings.contents)
        self._printed = Printed()
        self._guard = end_with_this_process()
        try:
            self._backend = backend_class(backend)(checkpoint, settings, temperature)
        except PubmarkError:
            raise
        except Exception as e:
            cause = cause_of(e, self._printed.text())
            raise JobError(f"an engine on {os.uname().nodename} cannot start: {cause}") from e
        # Once more, as it may have been overwritten while it was loaded.
        check_same(checkpoint, settings.contents)
        self._start_seconds = time.time() - began
        self._turns = _Turns()
        self._watch = _Watch(settings.stall_s, self._losses)

    def __del__(self) -> None:
        # Ray deletes the actor's object when it ends the actor regularly.
        if hasattr(self, "_backend"):
            self._backend.close()
        if guard := getattr(self, "_guard", None):
            guard.kill()
            guard.wait()

    async def __call__(self, batch: pa.Table) -> pa.Table:
        """Complete all prompts of a batch. A prompt that fails leaves the others as they are."""
        started = time.time()
        prompts = batch["prompts"].combine_chunks()
        flat = prompts.flatten()
        ids = flat.field("token_ids").to_pylist()
        limits = flat.field("max_tokens").to_pylist()
        counts = pc.list_value_length(prompts).to_pylist()
        results = await self._results(batch["pmid"].to_pylist(), ids, limits, counts)
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

    async def _results(
        self, pmids: list[int], ids: list[list[int]], limits: list[int], counts: list[int]
    ) -> list[dict[str, Any]]:
        """Complete the prompts of a batch, of which each citation has its count, in their order.

        They are completed all at once, unless engines were lost before: then perhaps one citation
        after another, so that the one that ends the engine is known.
        """
        if not pmids:
            return []
        name = f"{pmids[0]} to {pmids[-1]}" if len(pmids) > 1 else str(pmids[0])
        prompts = list(zip(ids, limits, strict=True))
        if not self._losses.take(name):
            async with self._turns.shared():
                results = await self._complete_all(prompts)
            self._losses.finish(name, len(pmids))
            return results
        answers: dict[int, list[dict[str, Any]]] = {}
        begins = _offsets(counts).to_pylist()
        async with self._turns.alone():
            for i in self._losses.in_order([str(pmid) for pmid in pmids]):
                answers[i] = await self._complete_alone(
                    str(pmids[i]), prompts[begins[i] : begins[i + 1]]
                )
        self._losses.finish(name, 0)
        return [result for i in range(len(pmids)) for result in answers[i]]

    async def _complete_alone(
        self, pmid: str, prompts: list[tuple[list[int], int]]
    ) -> list[dict[str, Any]]:
        """Complete the prompts of one citation while the engine has no other."""
        if (losses := self._losses.suspicion(pmid)) >= GIVEN_UP_AFTER:
            error = f"EngineDied: an engine was lost each of {losses} times that it had no other"
            return [_failed(f"{error} citation than this")] * len(prompts)
        with self._losses.alone(pmid):
            return await self._complete_all(prompts)

    async def _complete_all(self, prompts: list[tuple[list[int], int]]) -> list[dict[str, Any]]:
        return list(await asyncio.gather(*(self._complete(ids, limit) for ids, limit in prompts)))

    async def _complete(self, token_ids: list[int], max_tokens: int) -> dict[str, Any]:
        try:
            with self._watch.waiting():
                done: Completion = await self._backend.generate(token_ids, max_tokens)
        except EngineDied as e:
            cause = cause_of(e, self._printed.text())
            _die(cause.removeprefix("EngineDied: "), self._losses)
        except Exception as e:
            return _failed(f"{type(e).__name__}: {e}")
        return {"token_ids": list(done.token_ids), "logprobs": list(done.logprobs),
                "finish": done.finish, "error": None}  # fmt: skip


class _Turns:
    """Many batches at once, or one by itself: who comes to be by itself waits for the others that
    are under way, and holds up those that come after."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._sharing = 0
        self._alone = False

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Within the block others that share may be within theirs."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._alone)
            self._sharing += 1
        try:
            yield
        finally:
            async with self._changed:
                self._sharing -= 1
                self._changed.notify_all()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Within the block nobody else is within theirs."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._alone)
            self._alone = True
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: not self._sharing)
            yield
        finally:
            async with self._changed:
                self._alone = False
                self._changed.notify_all()


class _Watch:
    """Ends the process if its engine has prompts and has answered none for ``stall_s`` seconds.

    It watches from a thread, since an engine that hangs may block the event loop too.
    """

    def __init__(self, stall_s: float, losses: Losses):
        self._stall_s = stall_s
        self._losses = losses
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
                _die(
                    f"{self._in_flight} prompts and no answer for {self._stall_s:.0f} s",
                    self._losses,
                )


def _die(reason: str, losses: Losses) -> NoReturn:
    """End this actor's process.

    Ray replaces an actor only if its process dies: an exception would not do. Ray then gives the
    actor's batches to its replacement.
    """
    logger.error("engine given up: %s", reason)
    with suppress(Exception):  # nothing may keep it from ending
        losses.say(reason)
    with suppress(Exception):
        end_children()
    os._exit(1)


def _failed(error: str) -> dict[str, Any]:
    """The completion of a prompt that failed."""
    return {"token_ids": None, "logprobs": None, "finish": None, "error": error}


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
