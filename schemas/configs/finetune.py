"""What a tuning run is told about the model and its optimisation."""

from typing import Literal, Self

from pydantic import Field, model_validator

from schemas.strict import Strict
from schemas.task import Task


class Shape(Strict):
    """A Llama from nothing."""

    vocabulary: int = Field(8192, ge=300, description="Tokens of the tokenizer trained for it.")
    width: int = Field(320, ge=16, description="Width of the hidden states.")
    feed_forward: int = Field(896, ge=16, description="Width between the two feed-forward layers.")
    layers: int = Field(8, ge=1, description="Transformer blocks.")
    heads: int = Field(5, ge=1, description="Attention heads of a block; they divide the width.")
    context_tokens: int = Field(1024, ge=64, description="Longest prompt and answer together.")


class Lora(Strict):
    """A low-rank adapter beside frozen weights."""

    rank: int = Field(16, ge=1, description="Rank of the two matrices.")
    alpha: int = Field(32, ge=1, description="The adapter counts alpha / rank times.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of its inputs that is left out.")
    modules: tuple[str, ...] | None = Field(
        None,
        description="Names of the linear layers that are adapted; if not given, all but the "
        "output layer.",
    )


class Optimisation(Strict):
    """How the weights move. Warm-up, then a cosine down to ``final_rate``."""

    steps: int = Field(ge=1, description="Optimiser steps.")
    batch_tokens: int = Field(
        16_384, ge=64, description="Tokens of one step, of all workers together."
    )
    micro_tokens: int | None = Field(
        None,
        ge=64,
        description="Tokens of one forward pass at most; if not given, 8,192 on GPUs and "
        "1,024 on CPUs.",
    )
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw",
        description="adamw; or muon: the matrices between embeddings by Muon "
        "(torch.optim.Muon), scaled so "
        "that rates fit for AdamW fit; all else by AdamW. For models made from nothing.",
    )
    peak_rate: float = Field(1e-3, gt=0, description="Highest learning rate.")
    final_rate: float = Field(
        0.05, ge=0, le=1, description="Last learning rate, as a share of the peak."
    )
    warmup_steps: int = Field(100, ge=0, description="Steps in which the rate rises to the peak.")
    weight_decay: float = Field(
        0.1, ge=0, description="Weight decay of matrices; others have none."
    )
    beta2: float = Field(0.98, gt=0, lt=1, description="Decay of AdamW's second moment.")
    clip: float = Field(1.0, gt=0, description="Norm to which longer gradients are cut.")
    window: int = Field(16_384, ge=1, description="Sequences that are shuffled together.")
    layout: Literal["auto", "packed", "bucketed"] = Field(
        "auto", description="How sequences become batches; auto: packed on GPUs, bucketed on CPUs."
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "bfloat16",
        description="Precision of the forward pass; weights and their updates are float32.",
    )
    gradient_checkpointing: bool = Field(
        False, description="Compute activations twice instead of keeping them: less memory, slower."
    )
    compile: bool = Field(False, description="torch.compile: slow to start, then faster.")
    seed: int = Field(0, description="Seed of the order of batches.")


class LanguageStage(Strict):
    """Before tuning: the model reads plain abstracts, to go on with them and to restore them."""

    texts: list[str] = Field(
        min_length=1,
        description="Files, directories or globs of anything that annotate reads, or of text with "
        "one abstract a line, its title and a tab before it (.txt, .txt.gz).",
    )
    optimisation: Optimisation = Field(description="How the weights move in this stage.")
    max_tokens: int = Field(240, ge=16, description="Longest passage, prompt and answer together.")
    restore: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of passages from which words are left out, to be restored.",
    )


class Variation(Strict):
    """How examples are varied anew in every epoch, for models that would learn them by heart."""

    replace: float = Field(
        0.0, ge=0, le=1, description="Share of names that give way to others of their type."
    )
    set_apart: float = Field(
        0.0, ge=0, le=1, description='Share of raw texts that become tokenised ("T - cell").'
    )
    cut: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of longer words cut in two before they become tokens; for byte-level "
        "tokenizers, in which the second half is then no word of its own.",
    )


class TuningStage(Strict):
    """Examples become prompts and answers by the task's template and codec."""

    examples: list[str] = Field(
        min_length=1, description="Parquet, as `corpus import` makes: files, directories or globs."
    )
    splits: list[Literal["train", "dev"]] = Field(
        ["train"],
        min_length=1,
        description="Which splits are learned from. With dev, once all choices are made, "
        "nothing is scored "
        "on the way.",
    )
    optimisation: Optimisation = Field(description="How the weights move in this stage.")
    weights: dict[str, float] = Field(
        {},
        description="How often an epoch holds each example of a corpus, by its name: 1 if "
        "not given, 0 never.",
    )
    keep_negatives: float = Field(
        1.0, ge=0, le=1, description="Share of the examples without a mention that an epoch holds."
    )
    prompt_weight: float = Field(
        0.0, ge=0, description="Weight of the loss on a prompt's own tokens."
    )
    marker_weight: float = Field(
        1.0,
        gt=0,
        description="Weight of the loss on what opens a mention, where that is a token of "
        "its own: more "
        "than 1 for a model that marks too little.",
    )
    variation: Variation = Field(
        Variation(), description="How examples are varied; by default, not at all."
    )
    max_tokens: int = Field(
        1024,
        ge=16,
        description="Longest prompt and answer together, in tokens; longer examples are left out.",
    )


class FinetuneConfig(Strict):
    """``pubmark finetune``."""

    to: str = Field(
        description="Where the checkpoint goes: a directory. The run is kept beside it, in TO.run."
    )
    name: str = Field(description="The checkpoint's name.")
    description: str = Field("", description="One sentence for pubmark.json and the card.")
    task: Task = Field(description="What the checkpoint is tuned to do.")
    base: str | None = Field(
        None,
        description="A causal language model to begin from: a directory or hub id. Either "
        "this or shape.",
    )
    shape: Shape | None = Field(
        None, description="The shape of a Llama made from nothing, with a tokenizer of its own."
    )
    lora: Lora | None = Field(
        None, description="Tune an adapter beside the frozen base; if not given, all weights."
    )
    merge: bool = Field(False, description="Fold the adapter into its base at the end.")
    language: LanguageStage | None = Field(
        None, description="A stage before tuning, in which all weights learn from plain abstracts."
    )
    tuning: TuningStage = Field(description="The stage that learns to mark.")
    held_out: list[str] = Field(
        [], description="Examples whose test split must stay unseen, beside that of the examples."
    )
    dev_examples: int = Field(400, ge=0, description="Examples of the dev split scored on the way.")
    evaluate_every: int = Field(500, ge=1, description="Steps between two scorings.")
    save_every: int = Field(100, ge=1, description="Steps between two states to go on from.")
    workers: int = Field(1, ge=1, description="Processes, each with a GPU where there are any.")
    threads: int | None = Field(
        None,
        ge=1,
        description="Cores of a worker; if not given, the workers of a machine share all.",
    )
    sharded: bool = Field(
        False,
        description="Workers share weights, gradients and moments out among themselves (PyTorch's "
        "FSDP), for what one device does not hold; else each has all of them.",
    )
    seed: int = Field(0, description="Seed of initial weights, order and variation.")

    @model_validator(mode="after")
    def _check_beginning(self) -> Self:
        if (self.base is None) == (self.shape is None):
            raise ValueError("give either base or shape: what the model begins from")
        if self.lora and self.base is None:
            raise ValueError("lora needs a base")
        if self.lora and self.language:
            raise ValueError("language tunes all weights, which lora leaves as they are: give one")
        if self.merge and self.lora is None:
            raise ValueError("merge needs lora: without it the weights are whole")
        stages = [self.tuning.optimisation]
        if self.language:
            stages.append(self.language.optimisation)
        if self.sharded and any(s.optimizer == "muon" for s in stages):
            raise ValueError("sharded needs adamw: muon takes whole matrices")
        return self
