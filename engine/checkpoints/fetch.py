"""Where a checkpoint's files are: a directory, a URI, or a hub id, brought to this machine.

Enters: what a user named. Leaves: a local directory. Left to others: what is in it (load.py).
"""

import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from engine.storage.cache import cache_folder
from engine.storage.filesystem import filesystem
from schemas.errors import UsageError

EMBEDDED = "nano"


_HUB_PATTERNS = ["*.json", "*.safetensors"]


HUB_ID = re.compile(r"[^./~][^/]*/[^/]+")  # "owner/name"; anything else can only be a path


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
    if HUB_ID.fullmatch(ref):
        return ref, from_hub(ref)
    raise UsageError(f"checkpoint {ref}: does not exist; expected a directory, a URI or a hub id")


def from_hub(ref: str, revision: str | None = None) -> Path:
    """The directory of a hub id's files, at a revision or the newest.

    Raises:
        UsageError: if the hub does not give it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(ref, revision=revision, allow_patterns=_HUB_PATTERNS))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as e:
        raise UsageError(
            f"checkpoint {ref}: no such directory, and the hub does not give it: "
            f"{str(e).splitlines()[0]}"
        ) from e


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
    target = cache_folder() / "checkpoints" / key
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
