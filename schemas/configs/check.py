"""What is looked at before a job is started."""

from pydantic import Field

from schemas.configs.options import EngineOptions


class CheckConfig(EngineOptions):
    """``pubmark check``."""

    sources: list[str] = Field([], description="Files, directories, globs or URIs to read.")
    to: str | None = Field(None, description="Root of the tables: a local path or a URI.")
    checkpoint: str = Field("nano", description="A checkpoint: a directory, URI or hub id.")
    entity_types: list[str] | None = Field(
        None, description="Which of the checkpoint's entity types; all if not given."
    )
