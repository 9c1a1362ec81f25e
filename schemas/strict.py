"""The base of every config: frozen, and a key that it does not know is a fault."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A frozen model without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")
