"""The Protocol that all backends follow.

Enters: token ids of one prompt. Leaves: token ids of its completion, with log-probabilities. Left
to others: text on either side (engine/steps/prepare.py, finish.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from engine.checkpoints.contents import Contents
from engine.checkpoints.load import Checkpoint
from schemas.configs.options import Dtype

Finish = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How one engine is run. No setting may change a completion, only its cost, but for those
    ``engine_args`` that are a part of the annotator.

    An engine that has prompts but completes none for ``stall_s`` seconds counts as hung.
    ``context_tokens`` is the most that prompt and completion have together; None is as many as the
    checkpoint can have. ``engine_args`` are vLLM's own. ``contents`` is what the checkpoint's
    files must hold; None is anything.
    """

    threads: int = field(default=1, metadata={"why": "cores that an engine on a CPU may use"})
    gpu: bool = False
    tensor_parallel_size: int = 1
    speculative_tokens: int = 4
    max_concurrent_prompts: int = 256
    cpu_kv_cache_gb: int = 1
    stall_s: float = 300.0
    dtype: Dtype = "auto"
    context_tokens: int | None = None
    engine_args: dict[str, Any] = field(default_factory=dict, hash=False)
    contents: Contents | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """What the model generated for one prompt.

    ``token_ids`` lack the token that ended the completion. ``logprobs`` are natural logarithms, one
    per token id, from the model's own distribution. ``finish`` is ``length`` if the token limit
    ended the completion, otherwise ``stop``.
    """

    token_ids: Sequence[int]
    logprobs: Sequence[float]
    finish: Finish


class Backend(Protocol):
    """One running copy of a checkpoint, kept by one actor."""

    def __init__(self, checkpoint: Checkpoint, settings: EngineSettings, temperature: float): ...

    async def generate(self, token_ids: Sequence[int], max_tokens: int) -> Completion:
        """Complete one prompt, with at most ``max_tokens`` tokens; many calls run at once.

        Raises:
            schemas.errors.EngineDied: if the engine can serve no more prompts at all.
            Exception: any fault of this prompt alone.
        """
        ...

    def close(self) -> None:
        """Stop the engine and its processes."""
        ...
