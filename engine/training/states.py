"""Where a training run stands, kept so that a killed one goes on from there.

A state is a directory ``step-N`` in the run's own. It is written under another name and renamed, so
that a crash, or a disk that fills, leaves the one before as it was.
"""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.errors import JobError

if TYPE_CHECKING:
    from engine.training.loop import State

_FILE = "state.pt"


def save_state(state: "State", folder: Path, keep: int = 1) -> Path:
    """Write a state under ``folder``, then remove all but the last ``keep``.

    Raises:
        JobError: if it cannot be written; the states before it are untouched.
    """
    import torch

    target = folder / f"step-{state['step']:08d}"
    part = target.with_suffix(".part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        torch.save(state, part / _FILE)
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
    except (OSError, RuntimeError) as e:  # torch's writer raises RuntimeError when a disk is full
        shutil.rmtree(part, ignore_errors=True)
        last = latest_state(folder)
        raise JobError(
            f"{target}: the state of step {state['step']} cannot be written: "
            f"{str(e).splitlines()[0]}. "
            + (f"{last.name} is whole: the same command goes on from it" if last else "")
        ) from e
    for old in _states(folder)[:-keep]:
        shutil.rmtree(old)
    return target


def latest_state(folder: Path) -> Path | None:
    """The directory of the last state under ``folder``, if there is one."""
    return next(reversed(_states(folder)), None)


def load_state(path: Path) -> "State":
    """Read a state. Only tensors and plain values are read: nothing in the file is run."""
    import torch

    return torch.load(path / _FILE, map_location="cpu", weights_only=True)


def _states(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("step-*") if not p.suffix)
