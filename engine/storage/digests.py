"""Digests of files, remembered on this machine: an hourly job must not read large files each time.

Enters: where a file is, its size, and when it changed. Leaves: its digest, looked up or computed.
A small database in the cache folder remembers digests. It can be lost, and processes can share it:
what is not in it is computed. Left to others: what a digest is compared with.
"""

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from engine.storage.cache import cache_folder
from schemas.credentials import without_credentials

_SETTLED_S = 2.0
"""A file that changed so lately may change again within the same tick of its clock."""
_LARGE_BYTES = 64 << 20
"""A smaller file is hashed in less than a tenth of a second, and its digest is not remembered."""


def remembered(
    kind: str, location: str, size: int, changed: object, compute: Callable[[], str]
) -> str:
    """The digest of the file at ``location`` (a path or URI), from the cache or computed.

    ``kind`` names the algorithm, ``size`` is in bytes. ``changed`` is the time of the last change
    in nanoseconds, or another value that the store gives and that changes when the content does,
    such as an ETag. With None nothing shows a change, so nothing is remembered. Credentials in a
    URI are left out: they say nothing of the file.
    """
    if changed is None or (isinstance(changed, int) and time.time() - changed / 1e9 < _SETTLED_S):
        return compute()
    key = json.dumps([kind, without_credentials(location), size, str(changed)])
    try:
        with closing(_open()) as db, db:
            row = db.execute("SELECT digest FROM digests WHERE key = ?", (key,)).fetchone()
            if row:
                return str(row[0])
            digest = compute()
            db.execute("INSERT OR REPLACE INTO digests VALUES (?, ?)", (key, digest))
            return digest
    except (sqlite3.Error, OSError):  # a full or read-only disk: it only costs time
        return compute()


_TELLING = (
    "ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "generation", "version_id",
    "VersionId", "md5Hash", "content_md5", "Content-MD5", "checksum", "sha256", "created",
)  # fmt: skip
"""What file systems call that which changes with a file's content, be it a time or a digest."""


def changes(info: dict[str, Any]) -> list[object]:
    """All that shows a change of a file in its fsspec ``info``, besides its size; empty if nothing
    does."""
    return [value for name in _TELLING if (value := info.get(name)) is not None]


def settled(tells: list[object]) -> bool:
    """Whether a file that :func:`changes` tells this of would show it, were it to change now: it
    has more than a time, or its time is some seconds past."""
    times = [t for t in (_seconds(value) for value in tells) if t is not None]
    return len(times) < len(tells) or all(time.time() - t > _SETTLED_S for t in times)


def _seconds(value: object) -> float | None:
    """A time in Unix seconds; None if the value is no time."""
    if isinstance(value, datetime):
        return value.timestamp()
    return value if isinstance(value, float) else None


def changed_at(info: dict[str, Any]) -> object:
    """What shows a change of a file in its fsspec ``info``: its ETag or its time; None if neither.

    A time in seconds comes back in nanoseconds, as :func:`remembered` expects it.
    """
    for name in ("ETag", "etag", "mtime", "LastModified", "last_modified"):
        if (value := info.get(name)) is not None:
            return int(value * 1e9) if isinstance(value, float) else value
    return None


def digest_files(paths: list[Path], strict: bool = False) -> str:
    """BLAKE2b-128, in hex, over the names and contents of ``paths``, in their order.

    Hashing takes about a second for a gigabyte and core. The digest of a file of 64 MiB or more is
    remembered until the file changes: its size or time, and, if ``strict``, its inode or the time
    that the system sets at every change, which no program can set back.
    """
    total = hashlib.blake2b(digest_size=16)
    with ThreadPoolExecutor() as pool:
        digests = pool.map(partial(_digest, strict=strict), paths)
        for path, digest in zip(paths, digests, strict=True):
            total.update(path.name.encode() + b"\0" + bytes.fromhex(digest))
    return total.hexdigest()


def _digest(path: Path, strict: bool) -> str:
    stat = path.stat()
    compute = partial(_compute, path)
    if stat.st_size < _LARGE_BYTES:
        return compute()
    if strict:
        location = json.dumps([str(path.resolve()), stat.st_ino, stat.st_mtime_ns])
        return remembered("blake2b", location, stat.st_size, stat.st_ctime_ns, compute)
    return remembered("blake2b", str(path.resolve()), stat.st_size, stat.st_mtime_ns, compute)


def _compute(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _open() -> sqlite3.Connection:
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(cache / "digests.sqlite", timeout=10)
    db.execute("CREATE TABLE IF NOT EXISTS digests (key TEXT PRIMARY KEY, digest TEXT)")
    return db
