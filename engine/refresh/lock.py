"""The lock that keeps a table to one turn at a time.

Enters: a table's root and a run id. Leaves: the lock for the time of a block, or the name of the
run that has it. Left to others: correctness. Commits are conditional, so that two turns at once
would do no harm but the same work twice.

On a disk it is a lock of the operating system, which ends with its process, however that ends. In
an object store it is a small object that its holder renews every half minute. A lock that was not
renewed for five minutes counts as left by a run that died.
"""

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from engine.storage.filesystem import filesystem
from schemas.errors import UsageError

_NAME = ".refresh.lock"
_RENEW_S, _DEAD_S = 30.0, 300.0


class Held(Exception):
    """Another run has the lock; ``holder`` says which, since when, and where it runs."""

    def __init__(self, holder: str):
        super().__init__(holder)
        self.holder = holder


@contextmanager
def turn(root: str, run_id: str) -> Iterator[None]:
    """Keep other turns from the tables at ``root`` (a path or a URI) within the block.

    Raises:
        Held: if another run has the lock.
        UsageError: if nothing can be written at ``root``.
    """
    me = {
        "run_id": run_id,
        "host": os.uname().nodename,
        "pid": os.getpid(),
        "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    path = root.removeprefix("file://")
    try:
        with _on_disk(Path(path), me) if "://" not in path else _in_store(root, me):
            yield
    except PermissionError as e:
        raise UsageError(f"target {root}: cannot be written: {e}") from e


@contextmanager
def _on_disk(root: Path, me: dict[str, Any]) -> Iterator[None]:
    root.mkdir(parents=True, exist_ok=True)
    note = root / f"{_NAME}.json"  # says who has the lock, which a lock cannot
    lock = FileLock(root / _NAME)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        holder = "another run"
        with suppress(OSError, ValueError):
            holder = _describe(json.loads(note.read_text()))
        raise Held(holder) from None
    try:
        note.write_text(json.dumps(me))
        yield
        note.unlink(missing_ok=True)
    finally:
        lock.release()


@contextmanager
def _in_store(root: str, me: dict[str, Any]) -> Iterator[None]:
    fs, path = filesystem(root)
    lock = f"{path.rstrip('/')}/{_NAME}"

    def read() -> dict[str, Any] | None:
        try:
            holder: dict[str, Any] = json.loads(fs.cat_file(lock))
            return holder
        except (OSError, ValueError):
            return None

    def write() -> None:
        fs.pipe_file(lock, json.dumps(me | {"renewed": time.time()}).encode())

    other = read()
    if other is not None and not _is_dead(other, me):
        raise Held(_describe(other))
    write()
    # Of two runs that start at once, the one that wrote last has the lock.
    if (now := read()) is not None and now["run_id"] != me["run_id"]:
        raise Held(_describe(now))
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(_RENEW_S):
            with suppress(OSError):
                write()

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(OSError):
            fs.rm_file(lock)


def _is_dead(other: dict[str, Any], me: dict[str, Any]) -> bool:
    """Whether the run ``other``, which has the lock, no longer lives."""
    if other["host"] == me["host"]:
        # A lock with this process's own number is from before: a container's processes get the same
        # numbers each time that it starts.
        return other["pid"] == me["pid"] or not Path(f"/proc/{other['pid']}").exists()
    return time.time() - float(other.get("renewed", 0)) > _DEAD_S


def _describe(holder: dict[str, Any]) -> str:
    return "run {run_id}, since {since}, process {pid} on {host}".format(**holder)
