"""A checkpoint: where it is, whether it can be served, and what it was tuned for.

Enters: a local directory, an ``s3://`` (or other) URI, or a hub id, of a whole checkpoint or of a
LoRA adapter. Leaves: local directories that were checked before any engine starts. Left to others:
running it.
"""

import json
import posixpath
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
from engine.checkpoints.fetch import EMBEDDED, HUB_ID, fetch_files, from_hub
from engine.storage.digests import digest_files
from schemas.errors import UsageError
from schemas.task import CheckpointManifest

_CONTEXT_TOKENS = 2048  # where a checkpoint does not say


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

    ``ref`` is what the user named, good on every node. ``path`` has ``config.json`` and the whole
    weights: those of the base, where there is an ``adapter`` over it. ``tokenizer_path`` has
    ``tokenizer.json``. ``stop_token_ids`` end a completion; ``context_tokens`` bounds prompt and
    completion together.
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

    A directory with ``adapter_config.json`` is an adapter; its ``base_model_name_or_path`` names
    the base: a URI, an absolute path, a path relative to the adapter, ``nano``, or a hub id.

    Raises:
        UsageError: naming all that is missing or refused: ``pubmark.json``, ``config.json``,
            ``tokenizer.json``, weights as safetensors, no remote code; of an adapter, that it is
            plain LoRA, that its base is there, and that it fits it.
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
    """What tells the weights of a checkpoint, or of a base, from any others."""
    return digest_files([path / "config.json", *sorted(path.glob("*.safetensors"))])


def _manifest(path: Path, faults: list[str]) -> CheckpointManifest | None:
    try:
        return CheckpointManifest.model_validate_json((path / "pubmark.json").read_bytes())
    except FileNotFoundError:
        faults.append("no pubmark.json")
    except ValidationError as e:
        for fault in e.errors():
            place = ".".join(map(str, fault["loc"]))
            faults.append(f"pubmark.json{f' at {place}' if place else ''}: {fault['msg']}")
    return None


def _check_model(
    path: Path, tokenizer: Path, generation: Path
) -> tuple[dict[str, object], set[int], list[str]]:
    """The configuration of a whole model, the tokens that end a completion, and what is wrong."""
    faults: list[str] = []
    names = {p.name for p in path.iterdir()}
    if "config.json" not in names:
        faults.append("no config.json")
    if not (tokenizer / "tokenizer.json").exists():
        faults.append("no tokenizer.json")
    if not any(n.endswith(".safetensors") for n in names):
        faults.append(f"no *.safetensors{_pickles(names)}")
    found = _json(path / "config.json", faults)
    config = found or {}
    if "auto_map" in config or list(path.glob("*.py")):
        faults.append(_REMOTE_CODE)
    stop = {
        token
        for source in (config, _json(generation / "generation_config.json", faults) or {})
        for token in _as_list(source.get("eos_token_id"))
    }
    if found is not None and not stop:
        faults.append("config.json has no eos_token_id, so no completion would end")
    return config, stop, faults


def _adapter(ref: str, path: Path, faults: list[str]) -> tuple[Adapter | None, Path | None]:
    """The adapter in a directory and the directory of its base; none of what is not usable."""
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
        base = _fetch_base(ref, path, adapter)
    except UsageError as e:
        faults.append(f"its base model: {e}")
        return None, None
    if (base / ADAPTER_CONFIG).exists():
        faults.append(f"its base model {adapter.base} is itself an adapter")
        return None, None
    # Without weights there is nothing to hold against the base.
    return (adapter if ADAPTER_WEIGHTS in names else None), base


def _fetch_base(ref: str, path: Path, adapter: Adapter) -> Path:
    """The base of an adapter. Never a path relative to the working directory: that is another one
    on every node."""
    name = adapter.base
    if name == EMBEDDED or "://" in name or Path(name).expanduser().is_absolute():
        return fetch_files(name)[1]
    if "://" in ref and name.startswith("."):
        scheme, _, place = ref.partition("://")
        return fetch_files(f"{scheme}://{posixpath.normpath(posixpath.join(place, name))}")[1]
    if (path / name).is_dir():
        return (path / name).resolve()
    if HUB_ID.fullmatch(name):
        return from_hub(name, adapter.revision)
    raise UsageError(
        f"checkpoint {name}: does not exist beside the adapter; expected a URI, an absolute path, "
        "a path relative to the adapter, or a hub id"
    )


def _pickles(names: set[str]) -> str:
    found = sorted(n for n in names if n.endswith((".bin", ".pt", ".pth", ".gguf", ".ckpt")))
    return f" (found {', '.join(found)})" if found else ""


def _json(path: Path, faults: list[str]) -> dict[str, object] | None:
    """The object in a file; none, with the fault noted, where a file holds anything else."""
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
