"""``pubmark corpus import``."""

from typing import Any, Literal

from pydantic import Field, field_validator

from schemas.configs.options import Split
from schemas.strict import Strict


class CorpusSource(Strict):
    """One corpus of ``pubmark corpus import``."""

    name: str = Field(
        pattern=r"^[^/]+$",
        description="What the corpus, and the files of its examples, are called.",
    )
    files: dict[Split, list[str]] = Field(
        min_length=1, description="Files, folders or globs by split: train, dev, test."
    )
    format: Literal["mark", "pubtator", "bioc-xml", "bioc-json", "iob", "brat"] | None = Field(
        None, description="Format of the files; told by their names if not given."
    )
    types: str | dict[str, str | None] | None = Field(
        None,
        description="The corpus's entity types to ours, as Own=ours,Other= (left out), or as a "
        "YAML mapping if a name has a comma; or a corpus whose mapping is built in. If not given, "
        "each becomes itself in lower case.",
    )
    units: list[Literal["sentence", "citation"]] = Field(
        ["sentence"], min_length=1, description="What an example is; each unit makes its own files."
    )
    tokenised: bool = Field(False, description="Of mark text: words stand apart (T - cell).")
    lines_of: str | None = Field(
        None, description="The corpus of this import from whose documents these lines were taken."
    )
    dev: Literal["none", "hash", "published"] = Field(
        "none",
        description="Which documents of the train files become dev: none; hash, a tenth of them; "
        "published, those of which no lines_of this corpus are trained on.",
    )
    dev_block_lines: int = Field(
        1, ge=1, description="Lines without documents are drawn for dev in blocks of so many."
    )

    @field_validator("files", mode="before")
    @classmethod
    def _files(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {k: [v] if isinstance(v, str) else v for k, v in value.items()}
        return value


class CorpusImportConfig(Strict):
    """``pubmark corpus import``."""

    corpora: list[CorpusSource] = Field(min_length=1, description="The corpora to import.")
    root: str | None = Field(
        None, description="Folder or URI that the files' relative paths start from."
    )
    to: str = Field(min_length=1, description="The folder for the files of examples.")
    force: bool = Field(False, description="Replace files that are there.")

    @field_validator("to")
    @classmethod
    def _to(cls, value: str) -> str:
        if "://" in value:
            raise ValueError("expected a local folder")
        return value
