"""The configs of what keeps a table current: refresh, compare, replay, history."""

from typing import Self

from pydantic import Field, model_validator

from schemas.configs.options import (
    MirrorKind,
    MirrorOptions,
    TrialOptions,
    WriteOptions,
)
from schemas.strict import Strict


class MirrorPart(MirrorOptions):
    """What of NLM's files a turn fetches first."""

    kinds: list[MirrorKind] = Field(
        ["updates"], min_length=1, description="Which of NLM's sets of files."
    )


class GateLimits(Strict):
    """What a new annotator may change, of the texts that it is tried on. Shares are of the old
    one's mentions of each entity type, and of what is changed beyond the noise."""

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
