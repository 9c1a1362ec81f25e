"""vLLM's asynchronous engine, the same for its GPU build and its CPU build.

This is the only module that imports vllm, and only when an engine starts. Prompts and completions
are token ids: vLLM loads no tokenizer and detokenises nothing.
"""

import dataclasses
import difflib
import itertools
import os
from collections.abc import Iterable, Sequence
from typing import Any

from engine.backends.base import Completion, EngineSettings
from engine.checkpoints.load import Checkpoint
from schemas.errors import EngineDied, UsageError

_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""vLLM reserves memory for one of these ranks; an adapter of a lower rank is padded to it."""


class VllmBackend:
    """One ``AsyncLLM`` with a checkpoint; its engine runs in a process of its own.

    An adapter is not merged: every prompt is sent with it. vLLM's CPU build serves it too, in plain
    torch, at several times the cost of a merged checkpoint.
    """

    def __init__(self, checkpoint: Checkpoint, settings: EngineSettings, temperature: float):
        _set_environment(settings)
        from vllm import SamplingParams
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.lora.request import LoRARequest
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.async_llm import AsyncLLM
        from vllm.v1.engine.exceptions import EngineDeadError

        options: dict[str, Any] = {}
        # On a CPU, vLLM copies the adapter's matrices for each token of a step, guessed ones too.
        # 24 sentences with nano took 11 CPU seconds without guessing, and 68 with it, of which
        # about 20 are for starting to guess.
        guess = settings.gpu or checkpoint.adapter is None
        if settings.speculative_tokens and guess:
            # A completion repeats its prompt, so the next tokens can be guessed by looking there.
            options["speculative_config"] = {
                "method": "ngram",
                "num_speculative_tokens": settings.speculative_tokens,
                "prompt_lookup_min": 2,
                "prompt_lookup_max": 4,
            }
        self._adapter = None
        if checkpoint.adapter:
            options["enable_lora"] = True
            options["max_loras"] = 1
            options["max_lora_rank"] = min(r for r in _LORA_RANKS if r >= checkpoint.adapter.rank)
            self._adapter = LoRARequest("adapter", 1, checkpoint.adapter.path)
        if not settings.gpu:
            # Compiling costs a minute at every start and gains little at this size on a CPU.
            options["enforce_eager"] = True
            # The model runs in the engine's own process: there is no third process, no shared
            # memory is left behind when it is killed, and nano starts in 11 s instead of 19 and
            # runs 1.5 times as fast.
            options["distributed_executor_backend"] = "uni"
        elif settings.tensor_parallel_size > 1:
            # Ray has given this actor its GPUs, on one node: workers of vLLM's own, without a
            # placement group.
            options["distributed_executor_backend"] = "mp"
        self._engine = AsyncLLM.from_engine_args(
            AsyncEngineArgs(
                model=checkpoint.path,
                skip_tokenizer_init=True,
                generation_config="vllm",  # the checkpoint may not change sampling
                trust_remote_code=False,
                dtype=settings.dtype,
                # Memory for one prompt of this length must be left beside the weights: a context
                # of 128k tokens of an 8B model takes 16 GB.
                max_model_len=settings.context_tokens or checkpoint.context_tokens,
                max_num_seqs=settings.max_concurrent_prompts,
                tensor_parallel_size=settings.tensor_parallel_size,
                **{"enable_prefix_caching": True, "disable_log_stats": True}
                | options
                | settings.engine_args,
            )
        )
        self._dead_error = EngineDeadError
        self._ids = itertools.count()
        self._params = SamplingParams(
            temperature=temperature,
            logprobs=0,  # of the generated token alone
            detokenize=False,
            stop_token_ids=list(checkpoint.stop_token_ids),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        self._stop = frozenset(checkpoint.stop_token_ids)

    async def generate(self, token_ids: Sequence[int], max_tokens: int) -> Completion:
        """See :class:`engine.backends.base.Backend`."""
        params = self._params.clone()
        params.max_tokens = max_tokens
        try:
            async for output in self._engine.generate(
                {"prompt_token_ids": list(token_ids)},
                params,
                str(next(self._ids)),
                lora_request=self._adapter,
            ):
                final = output
        except self._dead_error as e:
            raise EngineDied(str(e)) from e
        answer = final.outputs[0]
        ids = list(answer.token_ids)
        logprobs = [entry[token].logprob for entry, token in zip(answer.logprobs, ids, strict=True)]
        if ids and ids[-1] in self._stop:
            ids, logprobs = ids[:-1], logprobs[:-1]
        return Completion(ids, logprobs, "length" if answer.finish_reason == "length" else "stop")

    def close(self) -> None:
        """Stop the engine's process."""
        self._engine.shutdown()


def check_names(engine_args: Iterable[str]) -> None:
    """Refuse arguments that this version of vLLM does not have.

    Raises:
        UsageError: naming each, and what it may have been meant to be.
    """
    _be_quiet()
    from vllm import __version__
    from vllm.engine.arg_utils import AsyncEngineArgs

    known = [f.name for f in dataclasses.fields(AsyncEngineArgs)]
    faults = []
    for name in engine_args:
        if name not in known:
            like = difflib.get_close_matches(name, known, n=1)
            faults.append(name + (f" (did you mean {like[0]}?)" if like else ""))
    if faults:
        raise UsageError(f"engine_args: vLLM {__version__} has no argument {', '.join(faults)}")


def _be_quiet() -> None:
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")


def _set_environment(settings: EngineSettings) -> None:
    """Set the variables that vLLM reads when it is imported and passes on to its engine."""
    _be_quiet()
    if not settings.gpu:
        # Without it, each engine's cache takes half of the machine's memory.
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(settings.cpu_kv_cache_gb))
        # "auto" binds all engines of one machine to the same cores.
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        # Must be off, or vLLM ignores "uni" above. AsyncLLM's engine has its own process anyway.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ["OMP_NUM_THREADS"] = str(settings.threads)
