"""``pubmark evaluate`` and ``pubmark compare``."""

from typing import Literal, Self

from pydantic import (
    Field,
    model_validator,
)

from schemas.configs.options import EngineOptions, TrialOptions


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


class CompareConfig(EngineOptions, TrialOptions):
    """``pubmark compare``: what another checkpoint would change."""

    checkpoint: str = Field(description="The new checkpoint.")
    against: str | None = Field(
        None, description="The old one; if not given, the one that made the table."
    )
    table: str | None = Field(None, description="Root of the tables whose citations are sampled.")
    sources: list[str] = Field([], description="Or files, directories or globs of citations.")
    entity_types: list[str] | None = Field(None, description="Which types; those of both if not.")

    @model_validator(mode="after")
    def _check_texts(self) -> Self:
        if bool(self.sources) == (self.table is not None):
            raise ValueError("expected either table (--from) or sources")
        if self.table is None and self.against is None:
            raise ValueError("expected against: without a table nobody says what the old one is")
        return self
