"""Where the files of a checkpoint or a base are, brought to this machine if they are not here.

Enters: what a user or an adapter names: a directory, a URI, or a hub id. Leaves: a local directory.
Left to others: what is in it (load.py).
"""

import hashlib
import posixpath
import re
import shutil
from pathlib import Path
from typing import Any

from filelock import FileLock

from engine.storage.cache import cache_folder
from engine.storage.digests import changes, digest_files, settled
from engine.storage.filesystem import filesystem
from schemas.credentials import without_credentials
from schemas.errors import UsageError

EMBEDDED = "nano"
"""The checkpoint that is installed beside the packages."""

_EMBEDDED_PATH = Path(__file__).parents[2] / "checkpoints" / EMBEDDED
_HUB_PATTERNS = ["*.json", "*.safetensors"]
# "owner/name" or "owner/name@revision"; anything else can only be a path. A revision is a branch, a
# tag or a commit, and may have slashes.
_HUB_ID = re.compile(r"(?P<name>[^./~@][^/@]*/[^/@]+)(?:@(?P<revision>.+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def fetch_files(ref: str) -> tuple[str, Path]:
    """A reference that is good on every node, and a local directory with the files.

    ``ref`` is ``nano``, a directory, a URI, or a hub id with a revision or without. Of a hub id the
    reference that comes back names the commit: other nodes, and later runs of the same annotator,
    get that one though the branch moves on.

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
    if match := _HUB_ID.fullmatch(ref):
        path = _from_hub(match["name"], match["revision"])
        # The hub's cache has a directory for each commit.
        commit = path.name if _COMMIT.fullmatch(path.name) else match["revision"]
        return (f"{match['name']}@{commit}" if commit else ref), path
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
    if match := _HUB_ID.fullmatch(name):
        return _from_hub(match["name"], match["revision"] or revision)
    raise UsageError(
        f"checkpoint {name}: does not exist beside the adapter; expected a URI, an absolute path, "
        "a path relative to the adapter, or a hub id"
    )


def _from_hub(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_HUB_PATTERNS))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as e:
        ref = f"{name}@{revision}" if revision else name
        raise UsageError(
            f"checkpoint {ref}: no such directory, and the hub does not give it: "
            f"{str(e).splitlines()[0]}"
        ) from e


def _download(uri: str) -> Path:
    """The copy of a checkpoint in the cache, made anew whenever the checkpoint has changed."""
    try:
        fs, root = filesystem(uri)
        fs.invalidate_cache()  # a listing may be from before a change
        files = [f for f in fs.ls(root, detail=True) if f["type"] == "file"]
    except (ValueError, ImportError, OSError) as e:
        raise UsageError(f"checkpoint {uri}: cannot be opened: {e}") from e
    if not files:
        raise UsageError(f"checkpoint {uri}: no files there")
    folder = cache_folder() / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    state = _state(fs, files)
    shown = without_credentials(uri)  # one copy, with whatever credentials it is read
    # Only one process of a machine fetches and the others wait, since weights are gigabytes.
    with FileLock(folder / f"{_key([shown, state])}.lock"):
        if state is None:
            part = _fetch(uri, fs, files, folder)
            target = folder / digest_files(sorted(part.iterdir()))
        else:
            target = folder / _key([shown, state])
            if target.exists():
                return target
            part = _fetch(uri, fs, files, folder)
        if target.exists():
            shutil.rmtree(part)
        else:
            part.rename(target)
    return target


def _state(fs: Any, files: list[dict[str, Any]]) -> list[tuple[object, ...]] | None:
    """What shows a change of the files: for each its name, size, and what else the store tells.

    None if the store tells nothing else of some file, or if one has changed so lately that it may
    change again without its time showing it. Then only the content says what is there.
    """
    state: list[tuple[object, ...]] = []
    for f in sorted(files, key=lambda f: str(f["name"])):
        tells = changes(f) or changes(fs.info(f["name"]))
        if not tells or not settled(tells):
            return None
        # Not the whole path, which may hold the credentials that the URI had.
        state.append((f["name"].rsplit("/", 1)[-1], f["size"], *map(str, tells)))
    return state


def _fetch(uri: str, fs: Any, files: list[dict[str, Any]], folder: Path) -> Path:
    """A new directory with copies of the files; left ones of processes that were killed go."""
    part = folder / f"{_key(uri)}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        for f in files:
            fs.get_file(f["name"], str(part / f["name"].rsplit("/", 1)[-1]))
    except OSError as e:
        raise UsageError(f"checkpoint {uri}: cannot be fetched: {e}") from e
    return part


def _key(value: object) -> str:
    return hashlib.blake2b(repr(value).encode(), digest_size=12).hexdigest()
