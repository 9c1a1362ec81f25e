"""``pubmark checkpoint merge``."""

from pydantic import Field, field_validator

from schemas.configs.options import Dtype
from schemas.strict import Strict


class MergeConfig(Strict):
    """``pubmark checkpoint merge``."""

    checkpoint: str = Field(description="A LoRA adapter over a base: a directory, URI or hub id.")
    to: str = Field(min_length=1, description="The directory to make; it must not be there yet.")
    dtype: Dtype = Field(
        "auto", description="Precision of the merged weights; auto is that of the base."
    )

    @field_validator("to")
    @classmethod
    def _to(cls, value: str) -> str:
        if "://" in value:
            raise ValueError("expected a local folder")
        return value
