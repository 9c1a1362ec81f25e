"""What reads or tidies the tables: history, sql, show, export, optimize, vacuum."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from schemas.strict import Strict


class OptimizeConfig(Strict):
    """``pubmark optimize``."""

    to: str = Field(description="Root of the tables.")


class VacuumConfig(Strict):
    """``pubmark vacuum``."""

    to: str = Field(description="Root of the tables.")
    retention_hours: int = Field(
        168, ge=1, description="Keep files that were part of a table in the last so many hours."
    )
    dry_run: bool = Field(False, description="Only count what would be deleted.")


class ShowConfig(Strict):
    """``pubmark show``."""

    pmid: int = Field(ge=1, description="A PMID in the table.")
    source: str = Field(description="Root of the tables: what --to named.")


class StatusConfig(Strict):
    """``pubmark status``."""

    source: str = Field(description="Root of the tables: what --to named.")


class SqlConfig(Strict):
    """``pubmark sql``."""

    query: str = Field(description="A query in DuckDB's SQL.")
    source: str = Field(description="Root of the tables: what --to named.")
    as_of: str | None = Field(
        None,
        description="annotations and mentions as they were at a version or a time (ISO 8601, UTC "
        "unless it says so); see history.",
    )
    unlocked: bool = Field(
        False,
        description="Let the query do all that DuckDB can with your rights: read and write files, "
        "load extensions, reach the network. Without it, it reads the tables and nothing else.",
    )
    format: Literal["table", "csv", "jsonl"] | None = Field(
        None, description="How rows are printed; if not given, table on a terminal, csv elsewhere."
    )


class ExportConfig(Strict):
    """``pubmark export``."""

    source: str = Field(description="Root of the tables: what --to named.")
    format: Literal["parquet", "jsonl", "pubtator", "bioc-json"] = Field(
        description="parquet, jsonl: a row per mention; pubtator, bioc-json: with the texts."
    )
    to: str = Field(
        min_length=1,
        description="The local file to make; .gz zips text formats, - writes them to stdout.",
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


class HistoryConfig(Strict):
    """``pubmark history``."""

    source: str = Field(description="Root of the tables: what --to named.")
    limit: int | None = Field(20, ge=1, description="Show the last so many runs; null for all.")
