"""A LoRA adapter in peft's format: its configuration, and which weights of a base it changes.

Enters: a directory with ``adapter_config.json`` and ``adapter_model.safetensors``, of which only
the headers are read. Leaves: the adapter, and its matrices matched with the base's weights. Left to
others: finding the base (fetch.py), serving (engine/backends), folding it in (merge.py).

Only plain LoRA of linear layers is accepted. vLLM refuses some of peft's other kinds and silently
misreads others (ranks and alphas by layer), and one adapter must mean the same everywhere.
"""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
MAX_RANK = 512
"""The highest rank that vLLM serves."""

_HARMLESS = {
    "auto_mapping", "base_model_name_or_path", "bias", "ensure_weight_tying", "eva_config",
    "exclude_modules", "inference_mode", "init_lora_weights", "layers_pattern",
    "layers_to_transform", "lora_alpha", "lora_dropout", "megatron_core", "peft_type",
    "peft_version", "qalora_group_size", "r", "revision", "runtime_config", "target_modules",
    "task_type", "use_rslora",
}  # fmt: skip
"""Keys of peft's configuration that may hold anything, or are checked one by one. Any other key
that is set makes the adapter something other than plain LoRA."""

_UNCHANGED_BASE = (None, True, False, "gaussian", "eva", "orthogonal")
"""Initialisations that leave the base's weights as they are. Others (PiSSA, OLoRA, …) change
them, so that the adapter fits no base that exists."""

_MATRIX = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])\.weight")

Shape = tuple[int, ...]
_Side = tuple[str, Shape]
"""The name and the shape of one of a module's two matrices."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A directory of LoRA matrices; ``scale * (B @ A)`` is added to the base's weights.

    ``base`` is the base's name as the adapter gives it, ``revision`` its revision if it is a hub
    id. ``partial``: the adapter leaves layers out on purpose.
    """

    path: str
    base: str
    revision: str | None
    rank: int
    scale: float
    partial: bool


@dataclass(frozen=True, slots=True)
class LoraPair:
    """The names of a module's matrices ``A`` and ``B`` in the adapter, and of the ``weights`` of
    the base that they change: mostly one name, several where it is ambiguous."""

    module: str
    a: str
    b: str
    weights: tuple[str, ...]


def read_adapter(path: Path, faults: list[str]) -> Adapter | None:
    """The adapter in a directory; None if it cannot be served, with all faults added."""
    try:
        config = json.loads((path / ADAPTER_CONFIG).read_bytes())
    except (OSError, ValueError) as e:
        faults.append(f"{ADAPTER_CONFIG}: {e}")
        return None
    if not isinstance(config, dict):
        faults.append(f"{ADAPTER_CONFIG}: expected an object")
        return None
    wrong = []
    if (kind := config.get("peft_type")) != "LORA":
        wrong.append(f"peft_type is {kind!r}, expected 'LORA'")
    if (start := config.get("init_lora_weights")) not in _UNCHANGED_BASE:
        wrong.append(f"init_lora_weights is {start!r}, which changes the base's weights")
    if (bias := config.get("bias") or "none") != "none":
        wrong.append(f"bias is {bias!r}, expected 'none'")
    for key in sorted(set(config) - _HARMLESS):
        if config[key]:
            wrong.append(f"{key} is {config[key]!r}, which is not plain LoRA")
    base, rank, alpha = (config.get(k) for k in ("base_model_name_or_path", "r", "lora_alpha"))
    if not isinstance(base, str) or not base:
        wrong.append("base_model_name_or_path names no base")
        base = ""
    if not isinstance(rank, int) or not 1 <= rank <= MAX_RANK:
        wrong.append(f"r is {rank!r}, expected 1 to {MAX_RANK}")
        rank = 1
    if not isinstance(alpha, int | float):
        wrong.append(f"lora_alpha is {alpha!r}, expected a number")
        alpha = 1
    if wrong:
        faults += [f"{ADAPTER_CONFIG}: {fault}" for fault in wrong]
        return None
    revision = config.get("revision")
    return Adapter(
        path=str(path),
        base=base,
        revision=revision if isinstance(revision, str) else None,
        rank=rank,
        scale=alpha / (math.sqrt(rank) if config.get("use_rslora") else rank),
        partial=config.get("layers_to_transform") is not None
        or bool(config.get("exclude_modules")),
    )


def match_base(adapter: Adapter, base: Path, faults: list[str]) -> list[LoraPair]:
    """The adapter's matrices, each pair with the weights of the base that it changes.

    Only headers are read. An adapter that was tuned over another base is a fault: it has matrices
    for layers that this base lacks or has in another size, or has none for layers like those that
    it adapts.
    """
    sides, wrong = _sides(adapter)
    shapes, damaged = read_shapes(sorted(base.glob("*.safetensors")))
    if wrong or damaged:
        faults += wrong + [f"base model: {d}" for d in damaged]
        return []
    pairs, missing, unfit = [], [], []
    for module, ((a, (_, columns)), (b, (rows, _))) in sides.items():
        names = _names(module, shapes)
        fitting = tuple(n for n in names if shapes[n] == (rows, columns))
        if fitting:
            pairs.append(LoraPair(module, a, b, fitting))
        elif names:
            unfit.append(
                f"{module} is {_by(shapes[names[0]])} there and {_by((rows, columns))} here"
            )
        else:
            missing.append(module)
    changed = {name for pair in pairs for name in pair.weights}
    alike = {_pattern(name) for name in changed}
    left_out = [
        n.removesuffix(".weight") for n in shapes if n not in changed and _pattern(n) in alike
    ]
    for problem, modules in (
        ("layers of other sizes", unfit),
        ("layers that the base does not have", missing),
        ("nothing for layers that the base has", [] if adapter.partial else left_out),
    ):
        if modules:
            more = f" and {len(modules) - 1} more" if len(modules) > 1 else ""
            faults.append(f"tuned over another base than this: {problem}: {modules[0]}{more}")
    return pairs


def read_shapes(files: list[Path]) -> tuple[dict[str, Shape], list[str]]:
    """The shapes of all tensors by name, from the headers, and a line for each damaged file."""
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, Shape] = {}
    damaged = []
    for file in files:
        try:
            with safe_open(file, framework="np") as f:
                names = f.keys()
                shapes |= {name: tuple(f.get_slice(name).get_shape()) for name in names}
        except (SafetensorError, OSError) as e:
            damaged.append(f"{file.name}: {e}")
    return shapes, damaged


def _sides(adapter: Adapter) -> tuple[dict[str, tuple[_Side, _Side]], list[str]]:
    """``A`` and ``B`` by module, and the faults of the matrices."""
    shapes, faults = read_shapes([Path(adapter.path) / ADAPTER_WEIGHTS])
    by_module: dict[str, dict[str, _Side]] = {}
    for name, shape in shapes.items():
        if match := _MATRIX.fullmatch(name):
            by_module.setdefault(match["module"], {})[match["side"]] = (name, shape)
        else:
            faults.append(f"{ADAPTER_WEIGHTS}: {name} is no LoRA matrix of a linear layer")
    sides = {}
    for module, both in by_module.items():
        (_, a), (_, b) = pair = both.get("A", ("", ())), both.get("B", ("", ()))
        if len(a) == len(b) == 2 and a[0] == b[1] == adapter.rank:
            sides[module] = pair
        else:
            faults.append(
                f"{ADAPTER_WEIGHTS}: {module} has an A of {_by(a)} and a B of {_by(b)}; expected "
                f"rank {adapter.rank}"
            )
    if not sides and not faults:
        faults.append(f"{ADAPTER_WEIGHTS}: holds no matrices")
    return sides, faults


def _names(module: str, shapes: dict[str, Shape]) -> list[str]:
    """The names that a module's weights may have in the base: its own, or that with another
    prefix, as in the text part of a larger model."""
    if f"{module}.weight" in shapes:
        return [f"{module}.weight"]
    end = f"{module.removeprefix('model.')}.weight"
    return [n for n in shapes if n == end or n.endswith(f".{end}")]


def _pattern(name: str) -> str:
    """A name with its numbers, such as that of its layer, made alike."""
    return re.sub(r"\d+", "#", name)


def _by(shape: Shape) -> str:
    return " × ".join(map(str, shape)) or "nothing"
