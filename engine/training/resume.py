"""The state that a killed run resumes from, as a file in a directory.

Enters: a state of the loop, or a directory. Leaves: the file, or the state in it. Left to others:
when states are kept and which are deleted (Ray Train, as fit.py configures it).
"""

import json
import logging
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING

from schemas.errors import JobError

if TYPE_CHECKING:
    from engine.training.loop import State

logger = logging.getLogger(__name__)

_FILE = "state.pt"
_RAY_NOTE = "checkpoint_manager_snapshot.json"
_NOT_WHOLE = (EOFError, OSError, RuntimeError, ValueError, UnpicklingError)
"""What reading a state raises if its writing was cut short."""


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
    """Read a state. Only tensors and plain values are read; no code in the file is run."""
    import torch

    return torch.load(folder / _FILE, map_location="cpu", weights_only=True)


def rescue_state(folder: Path) -> str | None:
    """The directory of the newest whole state below a folder of Ray Train's, if Ray lost its note.

    Ray keeps a note of its checkpoints, and empties it before writing it anew: on a full disk it
    stays empty, and Ray does not start with it. Such a note is deleted here. A missing note does
    not mean that there are no states: the run that deleted it may have been killed before it kept a
    state of its own. None if Ray's note is whole, or there is no whole state.
    """
    note = folder / _RAY_NOTE
    try:
        json.loads(note.read_text())
        return None
    except (FileNotFoundError, ValueError):
        note.unlink(missing_ok=True)
    for file in sorted(folder.glob(f"*/{_FILE}"), reverse=True):
        try:
            step = read_state(file.parent)["step"]
        except _NOT_WHOLE:
            continue
        logger.warning("%s is missing or not whole; going on from the state of step %d", note, step)
        return str(file.parent)
    return None
