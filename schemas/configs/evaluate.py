"""``pubmark evaluate`` and ``pubmark compare``."""

from typing import Self

from pydantic import Field, model_validator

from schemas.configs.options import EngineOptions, Split, TrialOptions


class EvaluateConfig(EngineOptions):
    """``pubmark evaluate``: a checkpoint over ``corpora``, or the file ``predictions``."""

    corpora: list[str] = Field(
        [],
        description="Examples (Parquet, as `pubmark corpus import` makes them): files, directories "
        "or globs.",
    )
    checkpoint: str = Field("nano", description="A checkpoint: a directory, URI or hub id.")
    split: Split = Field("test", description="Which examples are scored.")
    limit: int | None = Field(
        None, ge=1, description="Score at most so many examples of each corpus."
    )
    entity_types: list[str] | None = Field(
        None,
        description="Which entity types are scored; if not given, all that gold and "
        "checkpoint have "
        "in common.",
    )
    gold: str | None = Field(
        None, description="Instead of corpora: a file of gold mentions, PubTator or IOB."
    )
    predictions: str | None = Field(
        None, description="Anyone's predictions for the texts of gold, in the same format."
    )
    few_shot: int | None = Field(
        None,
        ge=0,
        description="Prompt an untuned instruction model with so many examples of the train split.",
    )
    task: str | None = Field(
        None,
        description="The task (a YAML file) that few_shot asks for; if not given, nano's entity "
        "types.",
    )
    seed: int = Field(
        20240401, ge=0, description="Seed of the bootstrap and of the examples that few_shot draws."
    )
    replicates: int = Field(
        1000, ge=0, description="Samples of the bootstrap that makes the intervals; 0 for none."
    )
    max_failed: float = Field(
        0.0, ge=0, le=1, description="Share of texts that may fail before exit code 3, 0 to 1."
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


class CompareConfig(EngineOptions, TrialOptions):
    """``pubmark compare``: what another checkpoint would change."""

    checkpoint: str = Field(description="The new checkpoint: a directory, URI or hub id.")
    against: str | None = Field(
        None, description="The old checkpoint; if not given, the one that made the table."
    )
    table: str | None = Field(None, description="Root of the tables whose citations are sampled.")
    sources: list[str] = Field(
        [], description="Instead of table: files, directories or globs of citations."
    )
    entity_types: list[str] | None = Field(
        None, description="Which entity types; if not given, those of both checkpoints."
    )

    @model_validator(mode="after")
    def _check_texts(self) -> Self:
        if bool(self.sources) == (self.table is not None):
            raise ValueError("expected either table (--from) or sources")
        if self.table is None and self.against is None:
            raise ValueError("expected against: without a table nothing says what the old one is")
        return self
