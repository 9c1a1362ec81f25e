"""What reads or tidies the tables: history, sql, show, export, optimize, vacuum."""

from typing import Literal

from pydantic import (
    Field,
    ValidationInfo,
    field_validator,
)

from schemas.strict import Strict


class OptimizeConfig(Strict):
    """``pubmark optimize``."""

    to: str = Field(description="Root of the tables.")


class VacuumConfig(Strict):
    """``pubmark vacuum``."""

    to: str = Field(description="Root of the tables.")
    retention_hours: int = Field(
        168, ge=1, description="Keep what readers and writers may have used in the last hours."
    )
    dry_run: bool = Field(False, description="Only count what would be deleted.")


class ShowConfig(Strict):
    """``pubmark show``."""

    pmid: int = Field(ge=1, description="The citation to show.")
    source: str = Field(description="Root of the tables.")


class SqlConfig(Strict):
    """``pubmark sql``."""

    query: str = Field(description="A query in DuckDB's SQL.")
    source: str = Field(description="Root of the tables.")
    as_of: str | None = Field(
        None, description="A version of `annotations`, or a time (ISO 8601; UTC unless it says so)."
    )


class ExportConfig(Strict):
    """``pubmark export``."""

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


class HistoryConfig(Strict):
    """``pubmark history``."""

    source: str = Field(description="Root of the tables.")
    limit: int | None = Field(20, ge=1, description="The last so many runs.")
