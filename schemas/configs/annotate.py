"""``pubmark annotate`` and ``pubmark replay``."""

from pydantic import Field

from schemas.configs.options import WriteOptions
from schemas.status import Status


class AnnotateConfig(WriteOptions):
    """``pubmark annotate``."""

    sources: list[str] = Field(
        min_length=1,
        description="Files, directories, globs or URIs of PubMed XML (.xml, .xml.gz), or "
        "of Parquet "
        "or JSONL with pmid, title, abstract. Of several records of a PMID the later one counts.",
    )
    to: str = Field(description="Root of the tables: a local path or a URI (s3://, gs://, az://).")
    checkpoint: str = Field(
        "nano", description="A tuned checkpoint: a directory, URI or hub id with pubmark.json."
    )
    entity_types: list[str] | None = Field(
        None, description="Which of the checkpoint's entity types; all if not given."
    )
    limit: int | None = Field(None, ge=1, description="Annotate at most so many citations.")
    retry: list[Status] = Field(
        [], description="Statuses whose citations are annotated again: failed, partial, …"
    )
    force: bool = Field(
        False,
        description="Replace the table's task by this one: what the sources hold is annotated "
        "anew, the rest is removed.",
    )
    baseline: bool = Field(
        False,
        description="The sources hold a complete baseline of NLM's: remove what it no "
        "longer holds.",
    )
    baseline_files: int | None = Field(
        None,
        ge=1,
        description="How many files the baseline has. Known by itself where `pubmark mirror` "
        "fetched them; elsewhere nothing is removed unless it is given.",
    )
    max_vanished: float = Field(
        0.05, ge=0, le=1, description="Share of the table that a baseline may remove, 0 to 1."
    )
    strict: bool = Field(
        False, description="Exit 1 if a file is damaged or a record rejected, instead of 3."
    )
    max_failed: float = Field(
        0.0, ge=0, le=1, description="Share of citations that may fail before exit code 3, 0 to 1."
    )
    dry_run: bool = Field(False, description="Only say what would be done.")


class ReplayConfig(WriteOptions):
    """``pubmark replay``."""

    to: str = Field(description="Root of the tables.")
    status: list[Status] = Field(
        ["failed", "partial"], description="Statuses whose citations are replayed."
    )
    reason: str | None = Field(
        None,
        description="Only citations whose error has this in it, in whatever case: generate, "
        "timeout, …",
    )
    pmids: list[int] | None = Field(None, min_length=1, description="Only these citations.")
    checkpoint: str | None = Field(
        None,
        description="Another checkpoint; if not given, the one that made most of the table.",
    )
    max_failed: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of citations that may fail again before exit code 3, 0 to 1.",
    )
    dry_run: bool = Field(False, description="Only say what would be replayed.")
