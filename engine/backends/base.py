"""The Protocol that all backends follow: token ids in, token ids and log-probabilities out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from engine.checkpoints.load import Checkpoint
from schemas.configs.options import Dtype

Finish = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How one engine is run: nothing in it may change an answer, only its cost.

    An engine that has prompts and answers none for ``stall_s`` seconds is taken for hung.
    """

    threads: int = field(default=1, metadata={"why": "cores that an engine on a CPU may use"})
    gpu: bool = False
    tensor_parallel_size: int = 1
    speculative_tokens: int = 4
    max_concurrent_prompts: int = 256
    cpu_kv_cache_gb: int = 1
    stall_s: float = 300.0
    dtype: Dtype = "auto"


@dataclass(frozen=True, slots=True)
class Completion:
    """What the model generated for one prompt.

    ``token_ids`` without the token that ended it; ``logprobs`` natural, one per token id, of the
    model's own distribution; ``finish`` is ``length`` where the token limit cut it off.
    """

    token_ids: Sequence[int]
    logprobs: Sequence[float]
    finish: Finish


class Backend(Protocol):
    """One running copy of a checkpoint, kept by one actor."""

    def __init__(self, checkpoint: Checkpoint, settings: EngineSettings, temperature: float): ...

    async def generate(self, token_ids: Sequence[int], max_tokens: int) -> Completion:
        """Complete one prompt; many run at once.

        Raises:
            schemas.errors.EngineDied: if the engine can serve no more prompts at all.
            Exception: whatever else goes wrong with this prompt alone.
        """
        ...

    def close(self) -> None:
        """Stop the engine and its processes."""
        ...
