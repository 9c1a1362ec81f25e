"""What the commits of a table say of themselves: when, and what the run noted with them.

Enters: a table. Leaves: its commits, the last first, or the version of a time. Left to others: what
the table held then (delta-rs), and what the notes mean (views/history.py).

delta-rs's own ``history`` reads every commit that the log still has, of a month some 40,000, and
gives none where the path has ``#`` or ``?`` in it. Here a commit is read when it is asked for.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from deltalake import DeltaTable
from pyarrow import NativeFile
from pyarrow.fs import FileSystem

from engine.tables.layout.files import filesystem
from schemas.errors import JobError, reason

_AT_ONCE = 64
"""Commits that are read at once: on an object store each is a request or two of some 20 ms."""

_BLOCK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One commit. ``time`` is null if another program wrote it and did not say; ``notes`` are what
    the commit says of itself (Delta's ``commitInfo``)."""

    version: int
    time: datetime | None
    notes: dict[str, Any]


def read_log(table: DeltaTable) -> Iterator[LogEntry]:
    """The commits of a table, the last first, as far as the log goes.

    Raises:
        JobError: if the log cannot be read.
    """
    fs, first = filesystem(table), table.version()
    newest, size = first, 1  # who wants the last commit alone does not wait for more
    try:
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            while newest >= 0:
                versions = range(newest, max(-1, newest - size), -1)
                newest, size = versions[-1] - 1, min(2 * size, _AT_ONCE)
                entries = threads.map(partial(_read, fs), versions)
                for version, entry in zip(versions, entries, strict=True):
                    if entry is not None:
                        yield entry
                    elif version < first:
                        return
                    else:
                        raise JobError(f"{table.table_uri}: its log lacks its version {first}")
    except (OSError, ValueError) as e:
        raise JobError(f"{table.table_uri}: its log cannot be read: {reason(e)}") from e


def last_run(table: DeltaTable) -> str | None:
    """The run that made the newest version of a table; None if it was not one of ours.

    Raises:
        JobError: if the log cannot be read.
    """
    run_id = next(read_log(table)).notes.get("pubmark.run_id")
    return None if run_id is None else str(run_id)


def version_at(table: DeltaTable, moment: datetime) -> int | None:
    """The newest version that was committed by a time; None if none was, as far as the log goes.

    By the times that the commits say themselves. delta-rs goes by when the files of the log were
    last changed, and in a copy of a table that is when they were copied. Some twenty commits are
    read, however many there are: times are taken to rise with the versions. Where writers' clocks
    differ, it is off by as much as they do.

    Raises:
        JobError: if the log cannot be read.
    """
    fs = filesystem(table)
    low, high = -1, table.version()
    try:
        while low < high:  # the version looked for is from low to high
            middle = (low + high + 1) // 2
            entry = _timed(fs, middle)
            if entry is None or (entry.time is not None and entry.time <= moment):
                low = middle
            else:
                high = middle - 1
        return low if low >= 0 and _timed(fs, low) is not None else None
    except (OSError, ValueError) as e:
        raise JobError(f"{table.table_uri}: its log cannot be read: {reason(e)}") from e


def _timed(fs: FileSystem, version: int) -> LogEntry | None:
    """A commit, or the last before it that says when it was; None if the log does not go so far."""
    while (entry := _read(fs, version)) is not None and entry.time is None:
        version -= 1
    return entry


def _read(fs: FileSystem, version: int) -> LogEntry | None:
    """One commit; None if the log does not have it (any more)."""
    if version < 0:
        return None
    try:
        with fs.open_input_file(f"_delta_log/{version:020}.json") as file:
            actions = (json.loads(line) for line in _lines(file) if b'"commitInfo"' in line)
            notes: dict[str, Any] = next(
                (a["commitInfo"] for a in actions if "commitInfo" in a), {}
            )
    except FileNotFoundError:
        return None
    stamp = notes.get("inCommitTimestamp", notes.get("timestamp"))
    time = None if stamp is None else datetime.fromtimestamp(int(stamp) / 1000, UTC)
    return LogEntry(version, time, notes)


def _lines(file: NativeFile) -> Iterator[bytes]:
    """The lines of a file, of which no more is read than is asked for: the notes stand in the
    first, and a large commit is megabytes."""
    rest = b""
    while block := file.read(_BLOCK_BYTES):
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
    if rest:
        yield rest
