"""Where the files of a checkpoint or a base are, brought to this machine if they are not here.

Enters: what a user or an adapter names: a directory, a URI, or a hub id. Leaves: a local directory.
Left to others: what is in it (load.py).
"""

import hashlib
import posixpath
import re
import shutil
from pathlib import Path

from filelock import FileLock

from engine.storage.cache import cache_folder
from engine.storage.filesystem import filesystem
from schemas.credentials import without_credentials
from schemas.errors import UsageError

EMBEDDED = "nano"
"""The checkpoint that is installed beside the packages."""

_EMBEDDED_PATH = Path(__file__).parents[2] / "checkpoints" / EMBEDDED
_HUB_PATTERNS = ["*.json", "*.safetensors"]
_HUB_ID = re.compile(r"[^./~][^/]*/[^/]+")  # "owner/name"; anything else can only be a path


def fetch_files(ref: str) -> tuple[str, Path]:
    """A reference that is good on every node, and a local directory with the files.

    ``ref`` is ``nano``, a directory, a URI, or a hub id, of which the newest revision is fetched.

    Raises:
        UsageError: if it is neither a directory nor anything that can be fetched.
    """
    if ref == EMBEDDED and _EMBEDDED_PATH.is_dir():
        return ref, _EMBEDDED_PATH
    path = Path(ref).expanduser().absolute()
    if path.is_dir():
        return (ref if ref == EMBEDDED else str(path)), path
    if "://" in ref:
        return ref, _download(ref)
    if _HUB_ID.fullmatch(ref):
        return ref, _from_hub(ref, None)
    raise UsageError(f"checkpoint {ref}: does not exist; expected a directory, a URI or a hub id")


def fetch_base(name: str, revision: str | None, adapter_ref: str, adapter_path: Path) -> Path:
    """The local directory of the base that an adapter names.

    ``name`` is ``nano``, a URI, an absolute path, a path relative to the adapter, or a hub id with
    its ``revision``. It is never a path relative to the working directory, which is another one on
    every node. ``adapter_ref`` and ``adapter_path`` are what :func:`fetch_files` gave for the
    adapter.

    Raises:
        UsageError: if the base does not exist or cannot be fetched.
    """
    if name == EMBEDDED or "://" in name or Path(name).expanduser().is_absolute():
        return fetch_files(name)[1]
    if "://" in adapter_ref and name.startswith("."):
        scheme, _, folder = adapter_ref.partition("://")
        return fetch_files(f"{scheme}://{posixpath.normpath(posixpath.join(folder, name))}")[1]
    if (adapter_path / name).is_dir():
        return (adapter_path / name).resolve()
    if _HUB_ID.fullmatch(name):
        return _from_hub(name, revision)
    raise UsageError(
        f"checkpoint {name}: does not exist beside the adapter; expected a URI, an absolute path, "
        "a path relative to the adapter, or a hub id"
    )


def _from_hub(ref: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(ref, revision=revision, allow_patterns=_HUB_PATTERNS))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as e:
        raise UsageError(
            f"checkpoint {ref}: no such directory, and the hub does not give it: "
            f"{str(e).splitlines()[0]}"
        ) from e


def _download(uri: str) -> Path:
    """The copy of a checkpoint in the cache, made anew whenever the checkpoint has changed."""
    try:
        fs, root = filesystem(uri)
        files = [f for f in fs.ls(root, detail=True) if f["type"] == "file"]
    except (ValueError, ImportError, OSError) as e:
        raise UsageError(f"checkpoint {uri}: cannot be opened: {e}") from e
    if not files:
        raise UsageError(f"checkpoint {uri}: no files there")
    # By where it is, whoever reads it: a path may hold the credentials that its URI had.
    state = sorted(
        (f["name"].rsplit("/", 1)[-1], f["size"], str(f.get("mtime", f.get("LastModified"))))
        for f in files
    )
    state = [(without_credentials(uri), 0, ""), *state]
    key = hashlib.blake2b(repr(state).encode(), digest_size=12).hexdigest()
    target = cache_folder() / "checkpoints" / key
    target.parent.mkdir(parents=True, exist_ok=True)
    # Only one process of a machine fetches and the others wait, since weights are gigabytes.
    with FileLock(f"{target}.lock"):
        if not target.exists():
            part = Path(f"{target}.part")
            shutil.rmtree(part, ignore_errors=True)  # left by a process that was killed
            part.mkdir()
            try:
                for f in files:
                    fs.get_file(f["name"], str(part / f["name"].rsplit("/", 1)[-1]))
            except OSError as e:
                raise UsageError(f"checkpoint {uri}: cannot be fetched: {e}") from e
            part.rename(target)
    return target
