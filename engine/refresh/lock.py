"""One turn at a time: who refreshes a table now.

Commits are conditional, so two turns at once would do no harm but the same work twice. On a disk an
operating system's lock says it, which ends with its process however that ends; in an object store a
small object does, which its holder renews: one that was not renewed for some minutes is dead.
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
    """Another turn goes on; ``holder`` says which run, since when, and where."""

    def __init__(self, holder: str):
        super().__init__(holder)
        self.holder = holder


@contextmanager
def turn(root: str, run_id: str) -> Iterator[None]:
    """Have the tables at ``root`` to oneself within the block, as far as turns go.

    Raises:
        Held: if another run has them.
        UsageError: if the place cannot be written.
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
    said = root / f"{_NAME}.json"
    lock = FileLock(root / _NAME)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        holder = "another run"
        with suppress(OSError, ValueError):
            holder = _describe(json.loads(said.read_text()))
        raise Held(holder) from None
    try:
        said.write_text(json.dumps(me))
        yield
        said.unlink(missing_ok=True)
    finally:
        lock.release()


@contextmanager
def _in_store(root: str, me: dict[str, Any]) -> Iterator[None]:
    fs, path = filesystem(root)
    place = f"{path.rstrip('/')}/{_NAME}"

    def read() -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(fs.cat_file(place))
            return found
        except (OSError, ValueError):
            return None

    def write() -> None:
        fs.pipe_file(place, json.dumps(me | {"renewed": time.time()}).encode())

    other = read()
    if other is not None and not _is_dead(other, me):
        raise Held(_describe(other))
    write()
    # Of two that start at once, the one that wrote last has it.
    if (now := read()) is not None and now["run_id"] != me["run_id"]:
        raise Held(_describe(now))
    over = threading.Event()

    def renew() -> None:
        while not over.wait(_RENEW_S):
            with suppress(OSError):
                write()

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        with suppress(OSError):
            fs.rm_file(place)


def _is_dead(other: dict[str, Any], me: dict[str, Any]) -> bool:
    if other["host"] == me["host"]:
        # A container's process has the same number each time.
        return other["pid"] == me["pid"] or not Path(f"/proc/{other['pid']}").exists()
    return time.time() - float(other.get("renewed", 0)) > _DEAD_S


def _describe(holder: dict[str, Any]) -> str:
    return "run {run_id}, since {since}, process {pid} on {host}".format(**holder)
