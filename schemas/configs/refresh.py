"""The configs of what keeps a table current: refresh, compare, replay, history."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from schemas.annotations import STATUSES
from schemas.configs.load import EngineOptions, MirrorKind, MirrorOptions, WriteOptions

_STRICT = ConfigDict(frozen=True, extra="forbid")


class MirrorPart(MirrorOptions):
    """What of NLM's files a turn fetches first."""

    kinds: list[MirrorKind] = Field(
        ["updates"], min_length=1, description="Which of NLM's sets of files."
    )


class GateLimits(BaseModel):
    """What a new annotator may change, of the texts that it is tried on. Shares are of the old
    one's mentions of each entity type, and of what is changed beyond the noise."""

    model_config = _STRICT

    min_f1: float = Field(0.0, ge=0, le=1, description="Exact F1 that it must have on gold.")
    max_f1_drop: float = Field(
        0.01,
        ge=0,
        le=1,
        description="How much lower than the old one's its F1 may be, by type too.",
    )
    max_lost: float = Field(0.2, ge=0, description="Share of mentions that may be lost.")
    max_added: float = Field(0.5, ge=0, description="Share that may be added.")
    max_moved: float = Field(0.2, ge=0, description="Share that may have another span.")
    max_failed: float = Field(0.0, ge=0, le=1, description="Share of texts that may fail.")
    min_mentions: int = Field(
        20, ge=1, description="A type with fewer mentions in the sample is not judged by shares."
    )


class TrialOptions(BaseModel):
    """The texts that two annotators are tried on."""

    model_config = _STRICT

    corpora: list[str] = Field([], description="Gold examples (Parquet) that both are scored on.")
    split: Literal["train", "dev", "test"] = Field("test", description="Which examples.")
    limit: int | None = Field(None, ge=1, description="At most so many examples of each corpus.")
    sample: int = Field(500, ge=0, description="So many citations of the table are compared.")
    seed: int = Field(20240401, ge=0, description="Of the sample.")


class GatePart(TrialOptions):
    """When a new checkpoint may take the place of the table's."""

    limits: GateLimits = GateLimits()
    old_checkpoint: str | None = Field(
        None, description="Where the table's checkpoint is now, if it was moved."
    )


class RefreshConfig(WriteOptions):
    """``pubmark refresh``."""

    to: str = Field(description="Root of the tables: a local path or a URI that delta-rs opens.")
    mirror: MirrorPart | None = Field(None, description="Fetch NLM's files first, to where.")
    sources: list[str] = Field(
        [], description="Files, directories, globs or URIs; the mirror's folder if none is given."
    )
    checkpoint: str = Field("nano", description="The checkpoint that all rows are to be of.")
    entity_types: list[str] | None = Field(
        None, description="Which of the checkpoint's entity types; all if not given."
    )
    baseline: bool = Field(
        True, description="Once a new year's baseline was mirrored, remove what it does not hold."
    )
    max_vanished: float = Field(
        0.05, ge=0, le=1, description="Share of the table that a baseline may remove."
    )
    gate: GatePart | None = Field(
        GatePart(), description="Asked before a new checkpoint is used; null: it is used at once."
    )
    slice_rows: int = Field(
        100_000, ge=0, description="Rows of other annotators that a turn makes anew."
    )
    max_failed: float = Field(
        0.0, ge=0, le=1, description="Share of citations that may fail before exit code 3."
    )
    compact_files: int = Field(
        32, ge=2, description="Compact the table when so many files are small or overlap."
    )
    retention_hours: int = Field(
        168, ge=1, description="After compacting, delete files that left the table so long ago."
    )

    @model_validator(mode="after")
    def _check_sources(self) -> Self:
        if not self.sources and self.mirror is None:
            raise ValueError("expected sources, or a mirror whose files are the sources")
        return self


class CompareConfig(EngineOptions, TrialOptions):
    """``pubmark compare``: what another checkpoint would change."""

    model_config = _STRICT

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


class ReplayConfig(WriteOptions):
    """``pubmark replay``."""

    to: str = Field(description="Root of the tables.")
    status: list[str] = Field(["failed", "partial"], description="Which statuses are replayed.")
    reason: str | None = Field(None, description="A part of the error, whatever its case.")
    pmids: list[int] | None = Field(None, min_length=1, description="Only these citations.")
    checkpoint: str | None = Field(
        None, description="Another checkpoint; if not given, the one that made most of the table."
    )
    max_failed: float = Field(
        0.0, ge=0, le=1, description="Share that may fail again before exit code 3."
    )
    dry_run: bool = Field(False, description="Only say what would be replayed.")

    @field_validator("status")
    @classmethod
    def _status(cls, value: list[str]) -> list[str]:
        if unknown := [v for v in value if v not in STATUSES]:
            raise ValueError(f"unknown status {', '.join(unknown)}; valid: {', '.join(STATUSES)}")
        return value


class HistoryConfig(BaseModel):
    """``pubmark history``."""

    model_config = _STRICT

    source: str = Field(description="Root of the tables.")
    limit: int | None = Field(20, ge=1, description="The last so many runs.")
