"""A checkpoint: its files, whether it can be served, and what it was tuned for.

Enters: a local directory, an ``s3://`` (or other) URI, or a hub id, of a whole checkpoint or of a
LoRA adapter. Leaves: local directories, checked before any engine starts. Left to others: fetching
files (fetch.py), what an adapter holds (adapter.py), and running it (engine/backends).
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from engine.checkpoints.adapter import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    Adapter,
    match_base,
    read_adapter,
)
from engine.checkpoints.fetch import fetch_base, fetch_files
from engine.storage.digests import digest_files
from schemas.errors import UsageError
from schemas.task import CheckpointManifest

_CONTEXT_TOKENS = 2048
"""Tokens of prompt and completion together, where ``config.json`` gives no bound."""

_REMOTE_CODE = "asks for remote code (auto_map or *.py), which is never run"
_EXPECTED = (
    "Expected a Hugging Face directory with config.json, tokenizer.json, *.safetensors and "
    "pubmark.json"
)
_EXPECTED_ADAPTER = (
    f"Expected a LoRA adapter with {ADAPTER_CONFIG}, {ADAPTER_WEIGHTS} and pubmark.json, and its "
    "base with config.json, tokenizer.json and *.safetensors"
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on this machine's disk.

    ``ref`` is what the user named, in a form that is good on every node. ``path`` is the directory
    of ``config.json`` and the whole weights, which are the base's where there is an ``adapter``.
    ``tokenizer_path`` is the directory of ``tokenizer.json``. ``stop_token_ids``, ordered, end a
    completion; ``context_tokens`` bounds prompt and completion together.
    """

    ref: str
    path: str
    manifest: CheckpointManifest
    stop_token_ids: tuple[int, ...]
    context_tokens: int
    tokenizer_path: str
    adapter: Adapter | None = None


@lru_cache(maxsize=4)
def load_checkpoint(ref: str) -> Checkpoint:
    """Bring a checkpoint to this machine, if it is not here, and check it.

    A directory with ``adapter_config.json`` is an adapter, and its ``base_model_name_or_path``
    names the base (see :func:`engine.checkpoints.fetch.fetch_base`).

    Raises:
        UsageError: naming all faults at once. A checkpoint must have ``pubmark.json``,
            ``config.json``, ``tokenizer.json`` and weights as safetensors, and no remote code. An
            adapter must be plain LoRA, its base must exist, and it must fit that base.
    """
    ref, path = fetch_files(ref)
    faults: list[str] = []
    is_adapter = (path / ADAPTER_CONFIG).exists()
    manifest = _manifest(path, faults)
    adapter, base = _adapter(ref, path, faults) if is_adapter else (None, path)
    # An adapter may have a tokenizer and end tokens of its own.
    tokenizer = path if (path / "tokenizer.json").exists() or base is None else base
    generation = path if (path / "generation_config.json").exists() or base is None else base
    stop: set[int] = set()
    config: dict[str, object] = {}
    if base is not None:
        config, stop, wrong = _check_model(base, tokenizer, generation)
        if adapter and not wrong and "quantization_config" not in config:
            match_base(adapter, base, wrong)
        faults += [f"base model {base}: {fault}" for fault in wrong] if is_adapter else wrong
    if faults or manifest is None or base is None:
        expected = _EXPECTED_ADAPTER if is_adapter else _EXPECTED
        raise UsageError(f"checkpoint {ref}: {'; '.join(faults)}. {expected}")
    context = config.get("max_position_embeddings")
    return Checkpoint(
        ref,
        str(base),
        manifest,
        tuple(sorted(stop)),
        context if isinstance(context, int) else _CONTEXT_TOKENS,
        str(tokenizer),
        adapter,
    )


def digest_weights(path: Path) -> str:
    """A digest of ``config.json`` and the weights in a directory, which identifies the weights."""
    return digest_files(weight_files(path))


def weight_files(path: Path) -> list[Path]:
    """The files in a directory that decide what a model computes: ``config.json`` and weights."""
    return [path / "config.json", *sorted(path.glob("*.safetensors"))]


def _manifest(path: Path, faults: list[str]) -> CheckpointManifest | None:
    try:
        return CheckpointManifest.model_validate_json((path / "pubmark.json").read_bytes())
    except FileNotFoundError:
        faults.append("no pubmark.json")
    except ValidationError as e:
        for fault in e.errors():
            key = ".".join(map(str, fault["loc"]))
            faults.append(f"pubmark.json{f' at {key}' if key else ''}: {fault['msg']}")
    return None


def _check_model(
    path: Path, tokenizer: Path, generation: Path
) -> tuple[dict[str, object], set[int], list[str]]:
    """The configuration of a whole model, the tokens that end a completion, and the faults."""
    faults: list[str] = []
    names = {p.name for p in path.iterdir()}
    if "config.json" not in names:
        faults.append("no config.json")
    if not (tokenizer / "tokenizer.json").exists():
        faults.append("no tokenizer.json")
    if not any(n.endswith(".safetensors") for n in names):
        faults.append(f"no *.safetensors{_pickles(names)}")
    read = _json(path / "config.json", faults)
    config = read or {}
    if "auto_map" in config or list(path.glob("*.py")):
        faults.append(_REMOTE_CODE)
    stop = {
        token
        for source in (config, _json(generation / "generation_config.json", faults) or {})
        for token in _as_list(source.get("eos_token_id"))
    }
    if read is not None and not stop:
        faults.append("config.json has no eos_token_id, so no completion would end")
    return config, stop, faults


def _adapter(ref: str, path: Path, faults: list[str]) -> tuple[Adapter | None, Path | None]:
    """The adapter in a directory, and the directory of its base; None for what cannot be used."""
    names = {p.name for p in path.iterdir()}
    if ADAPTER_WEIGHTS not in names:
        faults.append(f"no {ADAPTER_WEIGHTS}{_pickles(names)}")
    if others := sorted(n for n in names - {ADAPTER_WEIGHTS} if n.endswith(".safetensors")):
        faults.append(f"has {ADAPTER_CONFIG} and weights of its own: {', '.join(others)}")
    if list(path.glob("*.py")):
        faults.append(_REMOTE_CODE)
    adapter = read_adapter(path, faults)
    if adapter is None:
        return None, None
    try:
        base = fetch_base(adapter.base, adapter.revision, ref, path)
    except UsageError as e:
        faults.append(f"its base model: {e}")
        return None, None
    if (base / ADAPTER_CONFIG).exists():
        faults.append(f"its base model {adapter.base} is itself an adapter")
        return None, None
    # Without its weights, the adapter cannot be matched with the base.
    return (adapter if ADAPTER_WEIGHTS in names else None), base


def _pickles(names: set[str]) -> str:
    """A note for an error that names weights in refused formats; empty if there are none."""
    others = sorted(n for n in names if n.endswith((".bin", ".pt", ".pth", ".gguf", ".ckpt")))
    return f" (found {', '.join(others)})" if others else ""


def _json(path: Path, faults: list[str]) -> dict[str, object] | None:
    """The JSON object in a file; None if there is no file, or if it holds anything else, which is
    added to ``faults``."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as e:
        faults.append(f"{path.name}: {e}")
        return None
    if not isinstance(value, dict):
        faults.append(f"{path.name}: expected an object")
        return None
    return value


def _as_list(value: object) -> list[int]:
    return [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, int)]
