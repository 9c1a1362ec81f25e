"""What several configs share: how engines run, how rows are stored, where NLM's files come from."""

import re
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from schemas.engine_args import changing_answers, check_engine_args
from schemas.strict import Strict

MirrorKind = Literal["baseline", "updates"]
Split = Literal["train", "dev", "test"]
Dtype = Literal["auto", "bfloat16", "float16", "float32"]


class Engines(Strict):
    """How many engines: ``N`` or ``MIN:MAX``."""

    min: int = Field(1, ge=1, description="Engines that are started at once.")
    max: int = Field(1, ge=1, description="Engines that the pool may grow to.")

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"engines min {self.min} is above max {self.max}")
        return self

    @classmethod
    def parse(cls, text: str) -> Self:
        """From ``"4"`` or ``"1:16"``."""
        match = re.fullmatch(r"(\d+)(?::(\d+))?", text.strip())
        low = int(match[1]) if match else 0
        high = int(match[2]) if match and match[2] else low
        if not 1 <= low <= high:
            raise ValueError(f"engines {text!r}, expected N or MIN:MAX with 1 <= MIN <= MAX")
        return cls(min=low, max=high)

    def __str__(self) -> str:
        """As :meth:`parse` reads it."""
        return f"{self.min}" if self.min == self.max else f"{self.min}:{self.max}"


class EngineOptions(Strict):
    """How the engines of a job are run."""

    backend: str = Field("vllm", description="vllm, transformers, or package.module:Class.")
    engines: Engines = Field(
        Engines(),
        description="How many engines: N, or MIN:MAX for a pool that grows with the work.",
    )
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs of one engine.")
    max_concurrent_prompts: int | None = Field(
        None,
        ge=1,
        description="Prompts that an engine runs at once. If not given, 1,024 on a GPU, 256 else.",
    )
    speculative_tokens: int | None = Field(
        None,
        ge=0,
        description="Tokens that vLLM guesses from the prompt at a time; 0 is off. If not given, "
        "pubmark chooses.",
    )
    engine_args: dict[str, Any] = Field(
        {},
        description="Arguments of vLLM's engine, by their names there, such as "
        "gpu_memory_utilization, max_num_batched_tokens or quantization. Those that can change an "
        "answer are a part of the annotator.",
    )
    dtype: Dtype = Field(
        "auto", description="Precision of the model's arithmetic; auto is that of its weights."
    )
    stall_seconds: float = Field(
        300.0,
        gt=0,
        description="An engine that has prompts and answers none for so many seconds is replaced.",
    )
    context_tokens: int | None = Field(
        None,
        ge=1,
        description="Tokens of prompt and completion together that an engine reserves memory for; "
        "if not given, as many as the task's longest prompt and its completion have.",
    )
    node_wait_seconds: float | None = Field(
        None,
        ge=0,
        description="Seconds to wait for a node that an engine fits on to join the cluster; if not "
        "given, 1,800 where Ray's autoscaler can add one, else none.",
    )

    @property
    def serving(self) -> dict[str, Any]:
        """The arguments of the engine that can change an answer."""
        return changing_answers(self.engine_args)

    @field_validator("engine_args")
    @classmethod
    def _engine_args(cls, value: dict[str, Any]) -> dict[str, Any]:
        check_engine_args(value)
        return value

    @field_validator("engines", mode="before")
    @classmethod
    def _engines(cls, value: Any) -> Any:
        return Engines.parse(str(value)) if isinstance(value, str | int) else value


class WriteOptions(EngineOptions):
    """How the rows that a job annotates are stored."""

    store_text: bool = Field(
        True,
        description="Store each citation's text beside its mentions. Rows without text cannot be "
        "made anew from the table.",
    )
    commit_every_seconds: float = Field(60.0, gt=0, description="Seconds between two commits.")
    commit_every_rows: int = Field(
        50_000, ge=1, description="Citations after which a commit is made at once."
    )


class MirrorOptions(Strict):
    """How NLM's files are fetched, and where to."""

    to: str = Field(
        min_length=1, description="Where the files go: a directory or a URI (s3://, gs://)."
    )
    source: str = Field(
        "https://ftp.ncbi.nlm.nih.gov/pubmed",
        description="Base URL of NLM or of another mirror; baseline/ and updatefiles/ "
        "are below it.",
    )
    connections: int = Field(3, ge=1, le=10, description="Files fetched at a time, 1 to 10.")
    retries: int = Field(
        8, ge=0, description="Attempts in a row that bring nothing before a file is given up."
    )
    backoff_seconds: float = Field(
        1.0, ge=0, description="Unit, in seconds, of the growing pauses between attempts."
    )
    timeout_seconds: float = Field(
        60.0, gt=0, description="Seconds without a byte after which a connection is given up."
    )

    @field_validator("source")
    @classmethod
    def _source(cls, value: str) -> str:
        url = urlsplit(value)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(
                "expected an http:// or https:// URL; NLM serves its FTP folders by https too"
            )
        return value


class TrialOptions(Strict):
    """The texts that two annotators are tried on."""

    corpora: list[str] = Field(
        [],
        description="Gold examples (Parquet) that both checkpoints are scored on: files, "
        "directories or globs.",
    )
    split: Split = Field("test", description="Which examples are scored.")
    limit: int | None = Field(
        None, ge=1, description="Score at most so many examples of each corpus."
    )
    sample: int = Field(
        500, ge=0, description="How many citations both checkpoints are compared on."
    )
    seed: int = Field(20240401, ge=0, description="Seed of the sample.")
