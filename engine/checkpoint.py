"""A checkpoint: where it is, whether it can be served, and what it was tuned for.

Enters: a local directory, an ``s3://`` (or other) URI, or a hub id. Leaves: a local directory that
was checked before any engine starts. Left to others: running it.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from filelock import FileLock
from pydantic import ValidationError

from engine.digests import remembered
from engine.sources.shards import filesystem
from schemas.errors import UsageError
from schemas.task import CheckpointManifest

EMBEDDED = "nano"
_CONTEXT_TOKENS = 2048  # where a checkpoint does not say
_LARGE_BYTES = 64 << 20
_HUB_PATTERNS = ["*.json", "*.safetensors"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on this machine's disk.

    ``ref`` is what the user named, good on every node; ``stop_token_ids`` end a completion;
    ``context_tokens`` bounds prompt and completion together.
    """

    ref: str
    path: str
    manifest: CheckpointManifest
    stop_token_ids: tuple[int, ...]
    context_tokens: int


@lru_cache(maxsize=4)
def load_checkpoint(ref: str) -> Checkpoint:
    """Bring a checkpoint to this machine, if it is not here, and check it.

    Raises:
        UsageError: naming all that is missing or refused: ``pubmark.json``, ``config.json``,
            ``tokenizer.json``, weights as safetensors, no remote code.
    """
    ref, path = fetch_files(ref)
    faults = []
    names = {p.name for p in path.iterdir()}
    for name in ("pubmark.json", "config.json", "tokenizer.json"):
        if name not in names:
            faults.append(f"no {name}")
    if not any(n.endswith(".safetensors") for n in names):
        found = sorted(n for n in names if n.endswith((".bin", ".pt", ".pth", ".gguf", ".ckpt")))
        faults.append("no *.safetensors" + (f" (found {', '.join(found)})" if found else ""))
    found_config = _json(path / "config.json", faults)
    config = found_config or {}
    if "auto_map" in config or list(path.glob("*.py")):
        faults.append("asks for remote code (auto_map or *.py), which is never run")
    manifest = None
    if "pubmark.json" in names:
        try:
            manifest = CheckpointManifest.model_validate_json((path / "pubmark.json").read_bytes())
        except ValidationError as e:
            for fault in e.errors():
                place = ".".join(map(str, fault["loc"]))
                faults.append(f"pubmark.json{f' at {place}' if place else ''}: {fault['msg']}")
    stop = {
        token
        for source in (config, _json(path / "generation_config.json", faults) or {})
        for token in _as_list(source.get("eos_token_id"))
    }
    if found_config is not None and not stop:
        faults.append("config.json has no eos_token_id, so no completion would end")
    if faults or manifest is None:
        raise UsageError(
            f"checkpoint {ref}: {'; '.join(faults)}. Expected a Hugging Face directory with "
            "config.json, tokenizer.json, *.safetensors and pubmark.json"
        )
    context = config.get("max_position_embeddings")
    tokens = context if isinstance(context, int) else _CONTEXT_TOKENS
    return Checkpoint(ref, str(path), manifest, tuple(sorted(stop)), tokens)


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
    # A hub id is "owner/name"; anything else can only be a path.
    if ref.count("/") == 1 and not ref.startswith((".", "/", "~")) and not ref.endswith("/"):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
        )

        try:
            return ref, Path(snapshot_download(ref, allow_patterns=_HUB_PATTERNS))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as e:
            raise UsageError(
                f"checkpoint {ref}: no such directory, and the hub does not give it: "
                f"{str(e).splitlines()[0]}"
            ) from e
    raise UsageError(f"checkpoint {ref}: does not exist; expected a directory, a URI or a hub id")


def _local_places(ref: str) -> Iterator[Path]:
    if ref == EMBEDDED:
        yield Path(__file__).parents[1] / "checkpoints" / EMBEDDED
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
