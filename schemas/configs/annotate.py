"""``pubmark annotate`` and ``pubmark replay``."""

from pydantic import (
    Field,
    field_validator,
)

from schemas.annotations import STATUSES
from schemas.configs.options import WriteOptions


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
