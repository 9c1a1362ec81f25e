"""The place that a mirror fills: a local directory or an object store, of whole files only.

Enters: complete part files. Leaves: the same under their final names. Left to others: what is
fetched, and whether it is right.

Part files lie hidden in the target where that is local, else in pubmark's cache on this machine.
The name of each holds the md5 that it is to have, so that a download of a file that NLM has changed
since is never continued.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from fsspec.implementations.local import LocalFileSystem

from engine.storage.cache import cache_folder
from engine.storage.filesystem import filesystem
from schemas.credentials import without_credentials
from schemas.errors import UsageError

_BLOCK_BYTES = 1 << 22


class Target:
    """A directory at any URI that fsspec or pyarrow opens.

    Methods raise OSError when the store refuses.
    """

    def __init__(self, uri: str):
        """Look at the URI only; nothing is made there.

        Raises:
            UsageError: if no file system knows this kind of URI.
        """
        self.uri = uri
        try:
            self._fs, path = _open(uri)
        except Exception as e:  # each file system has errors of its own
            raise UsageError(f"target {uri}: cannot open this kind of URI ({e})") from e
        self._root = path.rstrip("/") or "/"
        self._local = isinstance(self._fs, LocalFileSystem)
        self._staging = Path(self._root) if self._local else _staging_folder(uri)

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Keep other processes of this machine from taking the lock ``name`` within the block.

        The folder of part files, which is the target itself where that is local, is made first.

        Raises:
            UsageError: if it cannot be written, or another run has the lock.
        """
        try:
            self._staging.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._staging / f".{name}.lock")
            lock.acquire(timeout=0)
        except Timeout as e:
            raise UsageError(f"target {self.uri}: another run is filling it") from e
        except (OSError, NotImplementedError) as e:  # the latter where a file system has no locks
            raise UsageError(f"target {self.uri}: cannot be written: {e}") from e
        try:
            yield
        finally:
            lock.release()

    def sizes(self) -> dict[str, int]:
        """Names and sizes, in bytes, of the files in the target now; none if it does not exist.

        Raises:
            UsageError: if the target cannot be listed, or is a file.
        """
        try:
            self._fs.invalidate_cache()
            entries = self._fs.ls(self._root, detail=True)
        except FileNotFoundError:
            return {}
        except Exception as e:  # each file system has errors of its own
            raise UsageError(f"target {self.uri}: cannot be listed: {e}") from e
        files = {e["name"]: e["size"] for e in entries if e["type"] != "directory"}
        if len(entries) == 1 and any(n.strip("/") == self._root.strip("/") for n in files):
            raise UsageError(f"target {self.uri}: is a file, expected a directory")
        return {name.rsplit("/", 1)[-1]: size for name, size in files.items()}

    def read(self, name: str) -> bytes:
        """The content of a small file in the target."""
        with self._fs.open(self._path(name), "rb") as file:
            return file.read()

    def md5(self, name: str, check: Callable[[], None]) -> str:
        """The md5, in hex, of a file in the target. ``check`` is called after each 4 MiB, and may
        raise to stop the reading."""
        digest = hashlib.md5(usedforsecurity=False)
        with self._fs.open(self._path(name), "rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
                check()
        return digest.hexdigest()

    def part(self, name: str, md5: str) -> Path:
        """The part file of the version of ``name`` with that md5; those of others are deleted."""
        part = self._staging / f".{name}.{md5}.part"
        for other in self._staging.glob(f".{name}.*.part"):
            if other != part:
                other.unlink(missing_ok=True)
        return part

    def put(self, part: Path, name: str) -> None:
        """Move a complete part file to its final name in the target."""
        if self._local:
            part.replace(self._path(name))
            _sync_directory(self._staging)
            return
        # Not straight to the final name: a stream that breaks is closed, and closing is what makes
        # an object, of what came so far. A copy within the store is whole or not there.
        beside = self._path(f".{name}.part")
        size = part.stat().st_size
        with part.open("rb") as source, self._fs.open(beside, "wb") as file:
            shutil.copyfileobj(source, file, _BLOCK_BYTES)
        if (stored := self._fs.info(beside)["size"]) != size:
            with suppress(OSError):
                self._fs.rm_file(beside)
            raise OSError(f"{name}: {stored} bytes arrived of {size}")
        self._fs.mv(beside, self._path(name))
        part.unlink()

    def write(self, name: str, content: bytes) -> None:
        """Write a small file into the target, whole or not at all."""
        if not self._local:
            with self._fs.open(self._path(name), "wb") as file:
                file.write(content)  # a small object is sent as a whole when the stream is closed
            return
        beside = self._staging / f".{name.removeprefix('.')}.part"
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"


def _open(uri: str) -> tuple[Any, str]:
    if not uri:
        raise ValueError("it is empty")
    return filesystem(uri)


def _staging_folder(uri: str) -> Path:
    """The folder for the part files of a target that is not local; the same for the same URI, with
    whatever credentials."""
    key = hashlib.blake2b(without_credentials(uri).rstrip("/").encode(), digest_size=12).hexdigest()
    return cache_folder() / "mirror" / key


def _sync_directory(path: Path) -> None:
    """Wait until renames in a folder are on the disk, so that a power failure cannot undo them."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
