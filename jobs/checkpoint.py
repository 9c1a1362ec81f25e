"""``pubmark checkpoint merge``: an adapter merged into its base, as full weights."""

from safetensors import SafetensorError

from engine.checkpoints.load import Checkpoint
from engine.checkpoints.merge import merge as merge_adapter
from schemas.configs.checkpoint import MergeConfig
from schemas.errors import JobError


def run(config: MergeConfig) -> Checkpoint:
    """Write the merged checkpoint.

    Raises:
        UsageError: if there is no such adapter or base, or the target exists.
        JobError: if it cannot be written.
    """
    try:
        return merge_adapter(config.checkpoint, config.to, config.dtype)
    except (OSError, SafetensorError) as e:
        raise JobError(f"{config.to}: cannot be written: {e}") from e


def summary(made: Checkpoint) -> dict[str, str]:
    """The object that ``--json`` prints."""
    return {"checkpoint": made.ref, "name": made.manifest.name}


def describe(made: Checkpoint) -> str:
    """One line for a person."""
    return f"{made.ref}: {made.manifest.name}, merged"
