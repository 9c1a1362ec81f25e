"""Whether the files of weights are whole, as far as their headers and their sizes tell.

Enters: a checkpoint on this machine. Leaves: nothing, or an error that names each damaged file: an
engine would need a minute to find the first, and names none.
"""

import json
from pathlib import Path

from engine.checkpoints.adapter import ADAPTER_WEIGHTS, read_shapes
from engine.checkpoints.load import Checkpoint
from schemas.errors import UsageError

_INDEX = "model.safetensors.index.json"


def check_weights(checkpoint: Checkpoint) -> None:
    """Read the headers of all weights, and hold the files against the index, if there is one.

    Raises:
        UsageError: naming each file that is damaged, cut off or missing.
    """
    path = Path(checkpoint.path)
    shapes, faults = read_shapes(sorted(path.glob("*.safetensors")))
    if not shapes and not faults:
        faults.append("*.safetensors: hold no weights")
    if (path / _INDEX).exists():
        faults += _missing(path, set(shapes), {f.split(":")[0] for f in faults})
    if checkpoint.adapter:
        faults += read_shapes([Path(checkpoint.adapter.path) / ADAPTER_WEIGHTS])[1]
    if faults:
        raise UsageError(f"checkpoint {checkpoint.ref}: {'; '.join(faults)}")


def _missing(path: Path, weights: set[str], damaged: set[str]) -> list[str]:
    """What the index names and the files lack."""
    try:
        named = json.loads((path / _INDEX).read_bytes())["weight_map"]
        files = {str(file): name for name, file in named.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        return [f"{_INDEX}: expected an object with weight_map: {type(e).__name__}: {e}"]
    faults = [
        f"{file}: missing, but {_INDEX} names it"
        for file in sorted(files)
        if not (path / file).exists()
    ]
    if not faults and not damaged and (lacking := sorted(set(named) - weights)):
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        faults.append(f"{named[lacking[0]]}: lacks {lacking[0]}{more}, which {_INDEX} names")
    return faults
