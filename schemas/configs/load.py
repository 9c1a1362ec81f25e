"""One pydantic model per job: what a YAML file or the command line may say."""

import re
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args
from urllib.parse import urlsplit

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from schemas.annotations import STATUSES
from schemas.errors import UsageError

_STRICT = ConfigDict(frozen=True, extra="forbid")

C = TypeVar("C", bound=BaseModel)

MirrorKind = Literal["baseline", "updates"]
Dtype = Literal["auto", "bfloat16", "float16", "float32"]


class Engines(BaseModel):
    """How many engines: ``N`` or ``MIN:MAX``."""

    model_config = _STRICT

    min: int = Field(1, ge=1)
    max: int = Field(1, ge=1)

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


class EngineOptions(BaseModel):
    """How the engines of a job are run."""

    model_config = _STRICT

    backend: str = Field("vllm", description="vllm, transformers, or package.module:Class.")
    engines: Engines = Field(Engines(), description="N, or MIN:MAX for an autoscaling pool.")
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs per engine.")
    speculative_tokens: int | None = Field(
        None, ge=0, description="Tokens guessed from the prompt at a time; 0 is off."
    )
    stall_seconds: float = Field(
        300.0,
        gt=0,
        description="An engine that has prompts and answers none for so long is replaced.",
    )
    dtype: Dtype = Field(
        "auto", description="Precision of the model's arithmetic; auto is that of its weights."
    )
    max_concurrent_prompts: int = Field(256, ge=1, description="Prompts an engine runs at once.")

    @field_validator("engines", mode="before")
    @classmethod
    def _engines(cls, value: Any) -> Any:
        return Engines.parse(str(value)) if isinstance(value, str | int) else value


class WriteOptions(EngineOptions):
    """How the rows that a job annotates are stored."""

    store_text: bool = Field(True, description="Store each citation's text beside its mentions.")
    commit_every_seconds: float = Field(60.0, gt=0, description="Seconds between commits.")
    commit_every_rows: int = Field(
        50_000, ge=1, description="Citations after which a commit is made at once."
    )


class AnnotateConfig(WriteOptions):
    """``pubmark annotate``."""

    sources: list[str] = Field(
        min_length=1, description="Files, directories, globs or URIs of PubMed XML, Parquet, JSONL."
    )
    to: str = Field(description="Root of the tables: a local path or a URI that delta-rs opens.")
    checkpoint: str = Field("nano", description="Directory, URI or hub id of a tuned checkpoint.")
    entity_types: list[str] | None = Field(
        None, description="Which of the checkpoint's entity types; all if not given."
    )
    limit: int | None = Field(None, ge=1, description="Annotate at most so many citations.")
    retry: list[str] = Field([], description="Statuses whose citations are annotated again.")
    force: bool = Field(False, description="Replace the table's task by this one.")
    baseline: bool = Field(
        False,
        description="The sources hold a complete baseline: remove what it does not hold any more.",
    )
    max_vanished: float = Field(
        0.05, ge=0, le=1, description="Share of the table that a baseline may remove."
    )
    strict: bool = Field(False, description="Fail (exit 1) on any damaged file or rejected record.")
    max_failed: float = Field(
        0.0, ge=0, le=1, description="Share of citations that may fail before exit code 3."
    )
    dry_run: bool = Field(False, description="Only count what would be done.")

    @field_validator("retry")
    @classmethod
    def _retry(cls, value: list[str]) -> list[str]:
        if unknown := [v for v in value if v not in STATUSES]:
            raise ValueError(f"unknown status {', '.join(unknown)}; valid: {', '.join(STATUSES)}")
        return value


class EvaluateConfig(EngineOptions):
    """``pubmark evaluate``: a checkpoint over ``corpora``, or the file ``predictions``."""

    checkpoint: str = Field("nano", description="Directory, URI or hub id of a checkpoint.")
    corpora: list[str] = Field([], description="Files, directories or globs of examples, Parquet.")
    split: Literal["train", "dev", "test"] = Field("test", description="Which examples to score.")
    limit: int | None = Field(None, ge=1, description="At most so many examples of each corpus.")
    entity_types: list[str] | None = Field(
        None, description="Which entity types to score; all that gold and checkpoint share if not."
    )
    gold: str | None = Field(None, description="A PubTator or IOB file of gold mentions.")
    predictions: str | None = Field(None, description="The same texts with predicted mentions.")
    few_shot: int | None = Field(
        None, ge=0, description="Prompt an untuned instruction model with so many examples."
    )
    task: str | None = Field(
        None, description="YAML file of the task to prompt it for, if it has no pubmark.json."
    )
    seed: int = Field(20240401, ge=0, description="Of the bootstrap, and of the examples drawn.")
    replicates: int = Field(1000, ge=0, description="Samples of the bootstrap; 0: no intervals.")
    max_failed: float = Field(
        0.0, ge=0, le=1, description="Share of texts that may fail before exit code 3."
    )

    @model_validator(mode="after")
    def _check_mode(self) -> Self:
        files = [f for f in (self.gold, self.predictions) if f is not None]
        if len(files) == 1 or bool(files) == bool(self.corpora):
            raise ValueError("expected either corpora, or both gold and predictions")
        if files and self.few_shot is not None:
            raise ValueError("few_shot prompts a checkpoint; expected corpora")
        if self.task is not None and self.few_shot is None:
            raise ValueError("task goes with few_shot; a tuned checkpoint has its own")
        return self


class CorpusSource(BaseModel):
    """One corpus of ``pubmark corpus import``."""

    model_config = _STRICT

    name: str = Field(pattern=r"^[^/]+$", description="What its examples and files are named by.")
    files: dict[Literal["train", "dev", "test"], list[str]] = Field(
        min_length=1, description="Files, folders or globs by split."
    )
    format: Literal["mark", "pubtator", "bioc-xml", "bioc-json", "iob", "brat"] | None = Field(
        None, description="Of the files; told by their names if not given."
    )
    types: str | dict[str, str | None] | None = Field(
        None,
        description="Own types to ours, null for those left out; or a corpus whose mapping is "
        "built in. Each type becomes itself, in lower case, if not given.",
    )
    units: list[Literal["sentence", "citation"]] = Field(
        ["sentence"], min_length=1, description="What an example is; each makes files of its own."
    )
    tokenised: bool = Field(False, description="Of mark text: words stand apart (T - cell).")
    lines_of: str | None = Field(
        None, description="The corpus here from whose documents these lines were taken."
    )
    dev: Literal["none", "hash", "published"] = Field(
        "none",
        description="Which documents of the train files are dev: none, a tenth by hash, or those "
        "of which no lines_of this corpus are trained on.",
    )
    dev_block_lines: int = Field(
        1, ge=1, description="Draw lines without documents in blocks of so many."
    )

    @field_validator("files", mode="before")
    @classmethod
    def _files(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {k: [v] if isinstance(v, str) else v for k, v in value.items()}
        return value


class CorpusImportConfig(BaseModel):
    """``pubmark corpus import``."""

    model_config = _STRICT

    corpora: list[CorpusSource] = Field(min_length=1, description="What to import.")
    root: str | None = Field(None, description="Folder or URI that the files' paths start from.")
    to: str = Field(min_length=1, description="The folder for the files of examples.")
    force: bool = Field(False, description="Replace files that are there.")

    @field_validator("to")
    @classmethod
    def _to(cls, value: str) -> str:
        if "://" in value:
            raise ValueError("expected a local folder")
        return value


class OptimizeConfig(BaseModel):
    """``pubmark optimize``."""

    model_config = _STRICT

    to: str = Field(description="Root of the tables.")


class VacuumConfig(BaseModel):
    """``pubmark vacuum``."""

    model_config = _STRICT

    to: str = Field(description="Root of the tables.")
    retention_hours: int = Field(
        168, ge=1, description="Keep what readers and writers may have used in the last hours."
    )
    dry_run: bool = Field(False, description="Only count what would be deleted.")


class ShowConfig(BaseModel):
    """``pubmark show``."""

    model_config = _STRICT

    pmid: int = Field(ge=1, description="The citation to show.")
    source: str = Field(description="Root of the tables.")


class SqlConfig(BaseModel):
    """``pubmark sql``."""

    model_config = _STRICT

    query: str = Field(description="A query in DuckDB's SQL.")
    source: str = Field(description="Root of the tables.")
    as_of: str | None = Field(
        None, description="A version of `annotations`, or a time (ISO 8601; UTC unless it says so)."
    )


class ExportConfig(BaseModel):
    """``pubmark export``."""

    model_config = _STRICT

    source: str = Field(description="Root of the tables.")
    format: Literal["parquet", "jsonl", "pubtator", "bioc-json"] = Field(
        description="parquet, jsonl: a row per mention; pubtator, bioc-json: with the texts."
    )
    to: str = Field(
        min_length=1, description="A local file; .gz zips what is text; - is stdout, for text."
    )
    force: bool = Field(False, description="Replace the file if it is there.")

    @field_validator("to")
    @classmethod
    def _to(cls, value: str, info: ValidationInfo) -> str:
        if "://" in value:
            raise ValueError("expected a local path, or - for stdout")
        if info.data.get("format") == "parquet" and (value == "-" or value.endswith(".gz")):
            raise ValueError("parquet is neither written to stdout nor zipped")
        return value


class MirrorOptions(BaseModel):
    """How NLM's files are fetched, and where to."""

    model_config = _STRICT

    to: str = Field(min_length=1, description="Directory or URI that the files go to.")
    source: str = Field(
        "https://ftp.ncbi.nlm.nih.gov/pubmed",
        description="Base URL, below which are baseline/ and updatefiles/.",
    )
    connections: int = Field(3, ge=1, le=10, description="Files fetched at a time.")
    retries: int = Field(
        8, ge=0, description="Attempts that bring nothing, after the first, before a file is left."
    )
    backoff_seconds: float = Field(
        1.0, ge=0, description="Unit of the growing pauses between attempts."
    )
    timeout_seconds: float = Field(
        60.0, gt=0, description="Without a byte for so long, a connection is given up."
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


class MirrorConfig(MirrorOptions):
    """``pubmark mirror``."""

    kind: MirrorKind = Field(description="Which of NLM's sets of files.")
    limit: int | None = Field(None, ge=1, description="Fetch at most so many files.")
    verify: bool = Field(False, description="Hash again every file that is there.")
    dry_run: bool = Field(False, description="Only say what would be fetched.")


class _Loader(yaml.SafeLoader):
    """Without YAML 1.1's integers in base 60, in which ``engines: 1:16`` would be 76."""


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int | str:
    text = str(loader.construct_scalar(node))
    return text if ":" in text else loader.construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def load_config(model: type[C], file: str | None, overrides: dict[str, Any]) -> C:
    """A job's config from a YAML file, if one is given, and what the command line says over it.

    Raises:
        UsageError: listing every fault at once, with the valid keys where one is unknown.
    """
    values: dict[str, Any] = {}
    if file is not None:
        try:
            loaded = yaml.load(Path(file).read_text(encoding="utf-8"), _Loader)
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
            raise UsageError(f"config {file}: {e}") from e
        if not isinstance(loaded, dict):
            raise UsageError(f"config {file}: expected a mapping of keys to values")
        values = loaded
    values |= overrides
    try:
        return model.model_validate(values)
    except ValidationError as e:
        where = f"config {file}" if file else "options"
        lines = []
        for fault in e.errors():
            key = ".".join(map(str, fault["loc"]))
            if fault["type"] == "extra_forbidden":
                valid = ", ".join(_keys(_model_at(model, fault["loc"][:-1])))
                lines.append(f"{key}: unknown key; valid: {valid}")
            else:
                lines.append(f"{key}: {fault['msg']} (found {fault['input']!r})")
        raise UsageError(f"{where}:\n  " + "\n  ".join(lines)) from e


def _keys(model: type[BaseModel]) -> list[str]:
    """A model's keys, its own before those that it shares with others."""
    return sorted(model.model_fields, key=lambda name: name not in model.__annotations__)


def _model_at(model: type[BaseModel], keys: tuple[int | str, ...]) -> type[BaseModel]:
    """The model that a key of a config holds, however deep."""
    for key in keys:
        field = model.model_fields.get(str(key))
        inner = field.annotation if field else None
        for kind in (inner, *get_args(inner)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                model = kind
    return model
