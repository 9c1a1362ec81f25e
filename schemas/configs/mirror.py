"""``pubmark mirror``."""

from pydantic import Field

from schemas.configs.options import MirrorKind, MirrorOptions


class MirrorConfig(MirrorOptions):
    """``pubmark mirror``."""

    kind: MirrorKind = Field(description="Which of NLM's folders: baseline or updates.")
    limit: int | None = Field(None, ge=1, description="Fetch at most so many files.")
    verify: bool = Field(False, description="Hash again every file that is there.")
    dry_run: bool = Field(False, description="Only say what would be fetched.")
