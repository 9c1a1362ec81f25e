"""The state that a killed run goes on from, as a file in a directory."""

from pathlib import Path
from typing import TYPE_CHECKING

from schemas.errors import JobError

if TYPE_CHECKING:
    from engine.training.loop import State

_FILE = "state.pt"


def write_state(state: "State", folder: Path) -> None:
    """Write a state into a directory.

    Raises:
        JobError: if it cannot be written.
    """
    import torch

    try:
        torch.save(state, folder / _FILE)
    except (OSError, RuntimeError) as e:  # torch's writer raises RuntimeError when a disk is full
        raise JobError(
            f"the state of step {state['step']} cannot be written to {folder}: "
            f"{str(e).splitlines()[0]}; the one before it is whole, and the same command goes on "
            "from there"
        ) from e


def read_state(folder: Path) -> "State":
    """Read a state. Only tensors and plain values are read: nothing in the file is run."""
    import torch

    return torch.load(folder / _FILE, map_location="cpu", weights_only=True)
