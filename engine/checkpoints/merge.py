"""An adapter folded into its base: a whole checkpoint, which serves without the adapter's cost.

Enters: a checkpoint that is an adapter. Leaves: a new directory of a whole checkpoint. Left to
others: matching matrices with weights (adapter.py).

No model is made: the base's files are rewritten one after another, tensor by tensor. So names,
files and configuration stay the base's, and memory holds one file at a time.
"""

import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.checkpoints.adapter import ADAPTER_WEIGHTS, Adapter, LoraPair, match_base
from engine.checkpoints.load import Checkpoint, load_checkpoint
from engine.checkpoints.tokenizer import TOKENIZER_FILES
from schemas.configs.options import Dtype
from schemas.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


def merge(adapter_checkpoint: str, to: str | Path, dtype: Dtype = "auto") -> Checkpoint:
    """Fold an adapter into its base and write a whole checkpoint to ``to``, a local directory.

    Sums are made in float32 and written in the precision of the base's weights (``auto``) or in
    ``dtype``. In bfloat16 they are rounded, so answers differ a little from those of the adapter
    beside its base. ``to`` appears only when it is complete.

    Raises:
        UsageError: if the checkpoint is no adapter, ``to`` exists, or the base is quantised.
    """
    checkpoint = load_checkpoint(adapter_checkpoint)
    target = Path(to).expanduser().absolute()
    if checkpoint.adapter is None:
        raise UsageError(f"checkpoint {checkpoint.ref}: is no adapter; expected one to merge")
    if target.exists():
        raise UsageError(f"{target}: exists; expected a new directory to merge into")
    pairs = _pairs(checkpoint, checkpoint.adapter)
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # left by a merge that was killed
    part.mkdir(parents=True)
    _write_weights(checkpoint, checkpoint.adapter, pairs, part, dtype)
    _write_others(checkpoint, Path(checkpoint.adapter.path), part, dtype)
    part.rename(target)
    load_checkpoint.cache_clear()  # it may hold a checkpoint that was at this path before
    return load_checkpoint(str(target))


def _pairs(checkpoint: Checkpoint, adapter: Adapter) -> dict[str, LoraPair]:
    """The pairs of matrices, by the name of the base's weights that they change."""
    faults: list[str] = []
    config = json.loads((Path(checkpoint.path) / "config.json").read_bytes())
    if "quantization_config" in config:
        faults.append(f"its base {checkpoint.path} is quantised; expected plain weights")
    else:
        pairs = match_base(adapter, Path(checkpoint.path), faults)
        faults += [
            f"{p.module} may be any of {', '.join(p.weights)}" for p in pairs if len(p.weights) > 1
        ]
    if faults:
        raise UsageError(f"checkpoint {checkpoint.ref}: cannot be merged: {'; '.join(faults)}")
    return {pair.weights[0]: pair for pair in pairs}


def _write_weights(
    checkpoint: Checkpoint, adapter: Adapter, pairs: dict[str, LoraPair], to: Path, dtype: Dtype
) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    with ExitStack() as stack:
        matrices = stack.enter_context(safe_open(Path(adapter.path) / ADAPTER_WEIGHTS, "pt"))
        for file in sorted(Path(checkpoint.path).glob("*.safetensors")):
            with safe_open(file, "pt") as f:
                metadata = f.metadata()
                tensors = {}
                for name in f.keys():  # noqa: SIM118 - it cannot be iterated over
                    tensor = f.get_tensor(name)
                    if pair := pairs.get(name):
                        b, a = matrices.get_tensor(pair.b), matrices.get_tensor(pair.a)
                        tensors[name] = _sum(tensor, b, a, adapter.scale, dtype)
                    else:
                        tensors[name] = _cast(tensor, dtype)
            save_file(tensors, to / file.name, metadata=metadata or {"format": "pt"})


def _sum(weights: "Tensor", b: "Tensor", a: "Tensor", scale: float, dtype: Dtype) -> "Tensor":
    added = weights.float() + scale * (b.float() @ a.float())
    return added.to(weights.dtype) if dtype == "auto" else _cast(added, dtype)


def _cast(tensor: "Tensor", dtype: Dtype) -> "Tensor":
    import torch

    if dtype == "auto" or not tensor.is_floating_point():
        return tensor
    kind: torch.dtype = getattr(torch, dtype)
    return tensor.to(kind)


def _write_others(checkpoint: Checkpoint, adapter: Path, to: Path, dtype: Dtype) -> None:
    base, tokenizer = Path(checkpoint.path), Path(checkpoint.tokenizer_path)
    generation = adapter if (adapter / "generation_config.json").exists() else base
    wanted = [tokenizer / name for name in TOKENIZER_FILES]
    wanted += [generation / "generation_config.json", base / "model.safetensors.index.json"]
    for file in wanted:
        if file.exists():
            shutil.copy(file, to)
    config: dict[str, Any] = json.loads((base / "config.json").read_bytes())
    if dtype != "auto":
        config = {k: v for k, v in config.items() if k != "torch_dtype"} | {"dtype": dtype}
    (to / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    manifest = checkpoint.manifest.model_copy(update={"base_digest": None})
    (to / "pubmark.json").write_text(
        manifest.model_dump_json(indent=2, exclude_none=True) + "\n", encoding="utf-8"
    )
