"""Generation by transformers: the portable reference, against which vLLM's completions are checked.

It completes one batch after another: slower than vLLM by design, and simple enough to be trusted.
"""

import asyncio
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from engine.backends.base import Completion, EngineSettings
from engine.checkpoints.load import Checkpoint

_MAX_BATCH = 64
"""Most prompts of one batch, since all of them wait for the longest completion."""

_Request = tuple[list[int], int, "asyncio.Future[Completion]"]


class TransformersBackend:
    """One causal language model in this process, in the precision of its weights."""

    def __init__(self, checkpoint: Checkpoint, settings: EngineSettings, temperature: float):
        import torch
        from transformers import AutoModelForCausalLM

        if not settings.gpu:
            torch.set_num_threads(settings.threads)
        self._device = "cuda" if settings.gpu else "cpu"
        model: Any = AutoModelForCausalLM.from_pretrained(
            checkpoint.path, dtype=settings.dtype, trust_remote_code=False, use_safetensors=True
        )
        if checkpoint.adapter:
            from peft import PeftModel

            # The base again, with the adapter's matrices beside its own.
            model = PeftModel.from_pretrained(model, checkpoint.adapter.path).get_base_model()
        self._model = model.to(self._device).eval()
        # No setting in the checkpoint's files may change sampling.
        self._model.generation_config = type(self._model.generation_config)(
            do_sample=temperature > 0,
            temperature=temperature or None,
            eos_token_id=list(checkpoint.stop_token_ids),
            pad_token_id=checkpoint.stop_token_ids[0],
        )
        self._stop = frozenset(checkpoint.stop_token_ids)
        self._batch_size = min(settings.max_concurrent_prompts, _MAX_BATCH)
        self._waiting: list[_Request] = []
        self._worker = ThreadPoolExecutor(1)
        self._serving: asyncio.Task[None] | None = None

    async def generate(self, token_ids: Sequence[int], max_tokens: int) -> Completion:
        """See :class:`engine.backends.base.Backend`."""
        answer: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._waiting.append((list(token_ids), max_tokens, answer))
        if self._serving is None or self._serving.done():
            self._serving = asyncio.create_task(self._serve())
        return await answer

    def close(self) -> None:
        """Let the running batch end, and start no other."""
        self._waiting.clear()
        self._worker.shutdown(cancel_futures=True)

    async def _serve(self) -> None:
        await asyncio.sleep(0)  # so that all prompts that come at once are in the first batch
        while self._waiting:
            # Prompts of similar length share a batch: little padding, and they end together.
            self._waiting.sort(key=lambda r: len(r[0]))
            batch = self._waiting[-self._batch_size :]
            del self._waiting[-self._batch_size :]
            await self._answer(batch)

    async def _answer(self, batch: list[_Request]) -> None:
        loop = asyncio.get_running_loop()
        try:
            done = await loop.run_in_executor(self._worker, self._complete, batch)
        except Exception as e:
            if len(batch) == 1:
                batch[0][2].set_exception(e)
                return
            for request in batch:  # so that one prompt's fault does not fail the others
                await self._answer([request])
            return
        for (_, _, answer), completion in zip(batch, done, strict=True):
            if not answer.done():
                answer.set_result(completion)

    def _complete(self, batch: list[_Request]) -> list[Completion]:
        return complete(self._model, [(ids, limit) for ids, limit, _ in batch], self._stop)


def complete(
    model: Any, prompts: Sequence[tuple[Sequence[int], int]], stop: Collection[int]
) -> list[Completion]:
    """Complete prompts (token ids, token limit) in one batch, in their order.

    Sampling is that of the model's generation config. A completion ends before a token of ``stop``.
    """
    import torch

    longest = max(len(ids) for ids, _ in prompts)
    pad = model.generation_config.pad_token_id
    # Padding is on the left, so that all completions begin in the same column.
    ids = torch.tensor([[pad] * (longest - len(i)) + list(i) for i, _ in prompts])
    mask = torch.tensor([[0] * (longest - len(i)) + [1] * len(i) for i, _ in prompts])
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=max(limit for _, limit in prompts),
            return_dict_in_generate=True,
            output_logits=True,
        )
        tokens = out.sequences[:, longest:]
        logprobs = torch.stack(
            [
                logits.float().log_softmax(-1).gather(1, tokens[:, i : i + 1])[:, 0]
                for i, logits in enumerate(out.logits)
            ],
            dim=1,
        )
    rows = zip(prompts, tokens.tolist(), logprobs.tolist(), strict=True)
    return [_cut(t, p, limit, stop) for (_, limit), t, p in rows]


def _cut(tokens: list[int], logprobs: list[float], limit: int, stop: Collection[int]) -> Completion:
    """One prompt's completion out of its row: up to an end token, or to its own limit."""
    end = next((i for i, t in enumerate(tokens) if t in stop), len(tokens))
    if end < limit:
        return Completion(tokens[:end], logprobs[:end], "stop")
    return Completion(tokens[:limit], logprobs[:limit], "length")
