"""``pubmark refresh``: one scheduled turn, its mirror and its gate."""

from typing import Self

from pydantic import Field, model_validator

from schemas.configs.options import MirrorKind, MirrorOptions, TrialOptions, WriteOptions
from schemas.strict import Strict


class MirrorPart(MirrorOptions):
    """Which of NLM's files a turn fetches first."""

    kinds: list[MirrorKind] = Field(
        ["updates"], min_length=1, description="Which of NLM's folders: baseline, updates."
    )


class GateLimits(Strict):
    """How far a new annotator may differ from the old one on the texts that both are tried on.

    Shares are of the old one's mentions of an entity type, and count what differs beyond the noise.
    """

    min_f1: float = Field(
        0.0, ge=0, le=1, description="Exact F1 on gold that it must reach, 0 to 1."
    )
    max_f1_drop: float = Field(
        0.01,
        ge=0,
        le=1,
        description="How far its F1 may be below the old one's, in all and of each type.",
    )
    max_lost: float = Field(0.2, ge=0, description="Share of mentions that may be lost.")
    max_added: float = Field(0.5, ge=0, description="Share of mentions that may be added.")
    max_moved: float = Field(0.2, ge=0, description="Share of mentions that may get another span.")
    max_failed: float = Field(
        0.0, ge=0, le=1, description="Share of the tried texts that may fail."
    )
    min_mentions: int = Field(
        20, ge=1, description="A type with fewer mentions in the sample is not judged by shares."
    )


class GatePart(TrialOptions):
    """When a new checkpoint may take the place of the table's."""

    limits: GateLimits = Field(
        GateLimits(), description="What a new checkpoint may change; else it is refused."
    )
    old_checkpoint: str | None = Field(
        None, description="Where the table's checkpoint is now, if it was moved."
    )


class RefreshConfig(WriteOptions):
    """``pubmark refresh``."""

    to: str = Field(description="Root of the tables: a local path or a URI (s3://, gs://, az://).")
    mirror: MirrorPart | None = Field(
        None,
        description="Fetch NLM's files first; if not given, the sources are taken as they are.",
    )
    sources: list[str] = Field(
        [],
        description="Files, directories, globs or URIs; the mirror's folder if none is given.",
    )
    baseline: bool = Field(
        True, description="Once a new year's baseline is mirrored, remove what it does not hold."
    )
    max_vanished: float = Field(
        0.05, ge=0, le=1, description="Share of the table that a baseline may remove, 0 to 1."
    )
    checkpoint: str = Field(
        "nano",
        description="The checkpoint that all rows are to be of. Where it is another than the "
        "table's, the gate is asked.",
    )
    entity_types: list[str] | None = Field(
        None, description="Which of the checkpoint's entity types; all if not given."
    )
    gate: GatePart | None = Field(
        GatePart(), description="Asked before a new checkpoint is used; null: it is used at once."
    )
    slice_rows: int = Field(
        100_000, ge=0, description="Rows of other annotators that one turn makes anew; 0: none."
    )
    max_failed: float = Field(
        0.0, ge=0, le=1, description="Share of citations that may fail before exit code 3, 0 to 1."
    )
    compact_files: int = Field(
        32, ge=2, description="Compact the table when so many files are small or overlap."
    )
    retention_hours: int = Field(
        168,
        ge=1,
        description="After compacting, delete files that left the table so many hours ago.",
    )

    @model_validator(mode="after")
    def _check_sources(self) -> Self:
        if not self.sources and self.mirror is None:
            raise ValueError("expected sources, or a mirror whose files are the sources")
        return self
