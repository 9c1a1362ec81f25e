"""What a tuning run is told about the model and its optimisation."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

_STRICT = ConfigDict(frozen=True, extra="forbid")


class Shape(BaseModel):
    """A Llama from nothing."""

    model_config = _STRICT

    vocabulary: int = Field(8192, ge=300, description="Tokens of the tokenizer trained for it.")
    width: int = Field(320, ge=16)
    feed_forward: int = Field(896, ge=16)
    layers: int = Field(8, ge=1)
    heads: int = Field(5, ge=1)
    context_tokens: int = Field(1024, ge=64)


class Lora(BaseModel):
    """A low-rank adapter beside frozen weights."""

    model_config = _STRICT

    rank: int = Field(16, ge=1)
    alpha: float = Field(32, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    modules: tuple[str, ...] | None = Field(
        None, description="Names of the linear layers; all but the output layer if not given."
    )


class Optimisation(BaseModel):
    """How the weights move. AdamW, warm-up, then a cosine down to ``final_rate``."""

    model_config = _STRICT

    steps: int = Field(ge=1, description="Optimiser steps.")
    batch_tokens: int = Field(16_384, ge=64, description="Tokens of one step, all workers.")
    micro_tokens: int = Field(8192, ge=64, description="Tokens of one forward pass at most.")
    peak_rate: float = Field(1e-3, gt=0)
    final_rate: float = Field(0.05, ge=0, le=1, description="As a share of the peak.")
    warmup_steps: int = Field(100, ge=0)
    weight_decay: float = Field(0.1, ge=0, description="Of matrices only.")
    beta2: float = Field(0.98, gt=0, lt=1)
    clip: float = Field(1.0, gt=0, description="Longest gradient.")
    window: int = Field(16_384, ge=1, description="Sequences that are shuffled together.")
    layout: Literal["auto", "packed", "bucketed"] = Field(
        "auto", description="auto: packed on GPUs, bucketed on CPUs."
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "bfloat16", description="Of the forward pass; weights and their updates are float32."
    )
    gradient_checkpointing: bool = False
    compile: bool = Field(False, description="torch.compile: slow to start, then faster.")
    seed: int = 0
