"""A checkpoint: where it is, whether it can be served, and what it was tuned for.

Enters: a local directory, an ``s3://`` (or other) URI, or a hub id, of a whole checkpoint or of a
LoRA adapter. Leaves: local directories that were checked before any engine starts. Left to others:
running it.
"""

import hashlib
import json
import os
import posixpath
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from filelock import FileLock
from pydantic import ValidationError

from engine.checkpoints.adapter import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    Adapter,
    match_base,
    read_adapter,
)
from engine.sources.shards import filesystem
from engine.storage.digests import remembered
from schemas.errors import UsageError
from schemas.task import CheckpointManifest

EMBEDDED = "nano"
_CONTEXT_TOKENS = 2048  # where a checkpoint does not say
_LARGE_BYTES = 64 << 20
_HUB_PATTERNS = ["*.json", "*.safetensors"]
_HUB_ID = re.compile(r"[^./~][^/]*/[^/]+")  # "owner/name"; anything else can only be a path
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


def digest_files(paths: list[Path]) -> str:
    """BLAKE2b-128 over names and contents, as hex; about a gigabyte a second and core. That of a
    large file is remembered until the file changes."""

    def compute(path: Path) -> str:
        with path.open("rb") as f:
            return hashlib.file_digest(f, lambda: hashlib.blake2b(digest_size=16)).hexdigest()

    def digest(path: Path) -> bytes:
        stat = path.stat()
        if stat.st_size < _LARGE_BYTES:
            return bytes.fromhex(compute(path))
        place = str(path.resolve())
        found = remembered("blake2b", place, stat.st_size, stat.st_mtime_ns, partial(compute, path))
        return bytes.fromhex(found)

    total = hashlib.blake2b(digest_size=16)
    with ThreadPoolExecutor() as pool:
        for path, value in zip(paths, pool.map(digest, paths), strict=True):
            total.update(path.name.encode() + b"\0" + value)
    return total.hexdigest()


def fetch_files(ref: str) -> tuple[str, Path]:
    """``ref`` as good on every node, and a local directory that holds it.

    Raises:
        UsageError: if it is neither a directory nor anything that can be fetched.
    """
    for place in _local_places(ref):
        if place.is_dir():
            return (ref if ref == EMBEDDED else str(place)), place
    if "://" in ref:
        return ref, _download(ref)
    if _HUB_ID.fullmatch(ref):
        return ref, _from_hub(ref)
    raise UsageError(f"checkpoint {ref}: does not exist; expected a directory, a URI or a hub id")


def _from_hub(ref: str, revision: str | None = None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(ref, revision=revision, allow_patterns=_HUB_PATTERNS))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as e:
        raise UsageError(
            f"checkpoint {ref}: no such directory, and the hub does not give it: "
            f"{str(e).splitlines()[0]}"
        ) from e


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
    if _HUB_ID.fullmatch(name):
        return _from_hub(name, adapter.revision)
    raise UsageError(
        f"checkpoint {name}: does not exist beside the adapter; expected a URI, an absolute path, "
        "a path relative to the adapter, or a hub id"
    )


def _pickles(names: set[str]) -> str:
    found = sorted(n for n in names if n.endswith((".bin", ".pt", ".pth", ".gguf", ".ckpt")))
    return f" (found {', '.join(found)})" if found else ""


def _local_places(ref: str) -> Iterator[Path]:
    if ref == EMBEDDED:
        yield Path(__file__).parents[2] / "checkpoints" / EMBEDDED
    yield Path(ref).expanduser().absolute()


def _download(uri: str) -> Path:
    """Copy a checkpoint from an object store into the cache, once for each change of it."""
    try:
        fs, root = filesystem(uri)
        files = [f for f in fs.ls(root, detail=True) if f["type"] == "file"]
    except (ValueError, ImportError, OSError) as e:
        raise UsageError(f"checkpoint {uri}: cannot be opened: {e}") from e
    if not files:
        raise UsageError(f"checkpoint {uri}: no files there")
    state = sorted(
        (f["name"], f["size"], str(f.get("mtime", f.get("LastModified")))) for f in files
    )
    key = hashlib.blake2b(repr(state).encode(), digest_size=12).hexdigest()
    cache = Path(os.environ.get("PUBMARK_CACHE", "~/.cache/pubmark")).expanduser()
    target = cache / "checkpoints" / key
    target.parent.mkdir(parents=True, exist_ok=True)
    # One process of a machine fetches, the others wait: weights are gigabytes.
    with FileLock(f"{target}.lock"):
        if not target.exists():
            part = Path(f"{target}.part")
            shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
            part.mkdir()
            try:
                for f in files:
                    fs.get_file(f["name"], str(part / f["name"].rsplit("/", 1)[-1]))
            except OSError as e:
                raise UsageError(f"checkpoint {uri}: cannot be fetched: {e}") from e
            part.rename(target)
    return target


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
