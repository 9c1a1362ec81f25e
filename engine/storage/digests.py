"""Digests of large files, remembered on this machine: an hourly job must not read them each time.

Enters: files, or what their store says of them. Leaves: digests in hex. A file is known by its
place, size and time of change. The cache can be lost, or be shared by processes: what is not in it
is computed.
"""

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from engine.storage.cache import cache_folder

_SETTLED_S = 2.0
"""A file that changed less than so many seconds ago may change again without its time of change
showing it: file systems count in ticks."""

_LARGE_BYTES = 64 << 20
"""Smaller files are read each time: that costs less than looking them up."""


def remembered(
    kind: str, place: str, size: int, changed: object, compute: Callable[[], str]
) -> str:
    """The digest of a file, from the cache or computed.

    ``kind`` names the digest, ``place`` the file. ``changed`` is the file's time of change in
    nanoseconds, or a tag that its store changes whenever the content changes (an ETag). If it is
    None, the digest is computed and not remembered.
    """
    if changed is None or (isinstance(changed, int) and time.time() - changed / 1e9 < _SETTLED_S):
        return compute()
    key = json.dumps([kind, place, size, str(changed)])
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


def changed_at(info: dict[str, Any]) -> object:
    """When a file changed, in nanoseconds, or its tag, by an fsspec ``info``; None if it says
    neither."""
    for name in ("ETag", "etag", "mtime", "LastModified", "last_modified"):
        if (value := info.get(name)) is not None:
            return int(value * 1e9) if isinstance(value, float) else value
    return None


def _open() -> sqlite3.Connection:
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(cache / "digests.sqlite", timeout=10)
    db.execute("CREATE TABLE IF NOT EXISTS digests (key TEXT PRIMARY KEY, digest TEXT)")
    return db


def digest_files(paths: list[Path]) -> str:
    """BLAKE2b-128 over the names and contents of files in their order, as hex.

    About a gigabyte a second and core; that of a large file is remembered until the file changes.
    """

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
