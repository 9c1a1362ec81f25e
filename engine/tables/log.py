"""The application transactions of a Delta table, all of them read at once.

Enters: a version of a table. Leaves: for each application id the number that was last set. Left to
others: what the ids mean (ledger.py).

delta-rs gives one id at a time, and reads the log anew for each: with 1,700 files taken in that
were 54,000 requests to an object store. Here the last checkpoint and the commits after it are read
once, as the Delta protocol describes them
(https://github.com/delta-io/delta/blob/master/PROTOCOL.md, "Checkpoints" and "Transaction
Identifiers").
"""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow.parquet as pq
from deltalake import DeltaTable
from pyarrow.fs import FileSelector, FileSystem

from engine.tables.layout.files import filesystem
from schemas.errors import JobError, reason

_LOG = "_delta_log"
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(?:\.[\w-]+)*\.(parquet|json)")
_READ_AT_ONCE = 8


def app_transactions(table: DeltaTable) -> dict[str, int]:
    """The number that each application id has at the version of ``table``.

    Raises:
        JobError: if the log cannot be read.
    """
    fs, version = filesystem(table), table.version()
    found: dict[str, int] = {}
    try:
        checkpoint, paths = _last_checkpoint(fs, version)
        for path in paths:
            found |= _of_checkpoint(fs, path)
        commits = range(checkpoint + 1, version + 1)
        with ThreadPoolExecutor(_READ_AT_ONCE) as threads:
            for of_commit in threads.map(lambda v: _of_commit(fs, v), commits):
                found |= of_commit
    except (OSError, ValueError) as e:
        raise JobError(f"{table.table_uri}: its log cannot be read: {reason(e)}") from e
    return found


def _last_checkpoint(fs: FileSystem, version: int) -> tuple[int, list[str]]:
    """The newest checkpoint that is not after ``version``, and its files; -1 and none if there is
    no checkpoint."""
    try:
        hint = json.loads(_read(fs, f"{_LOG}/_last_checkpoint"))
    except FileNotFoundError:
        hint = {}
    # Of a checkpoint in parts, or of another kind, the names are known only from the folder.
    if hint and hint["version"] <= version and not hint.get("parts") and "v2Checkpoint" not in hint:
        return hint["version"], [f"{_LOG}/{hint['version']:020}.checkpoint.parquet"]
    checkpoints: dict[int, list[str]] = {}
    for name in (f.base_name for f in fs.get_file_info(FileSelector(_LOG))):
        if (match := _CHECKPOINT.fullmatch(name)) and int(match[1]) <= version:
            checkpoints.setdefault(int(match[1]), []).append(f"{_LOG}/{name}")
    newest = max(checkpoints, default=-1)
    return newest, checkpoints.get(newest, [])


def _of_checkpoint(fs: FileSystem, path: str) -> dict[str, int]:
    if path.endswith(".json"):
        return dict(_transactions_in(_read(fs, path)))
    with fs.open_input_file(path) as file:
        parquet = pq.ParquetFile(file)
        if "txn" not in parquet.schema_arrow.names:
            return {}
        rows = parquet.read(["txn.appId", "txn.version"])["txn"].combine_chunks().drop_null()
    ids, numbers = rows.field("appId").to_pylist(), rows.field("version").to_pylist()
    return {i: n for i, n in zip(ids, numbers, strict=True) if i is not None}


def _of_commit(fs: FileSystem, version: int) -> dict[str, int]:
    return dict(_transactions_in(_read(fs, f"{_LOG}/{version:020}.json")))


def _transactions_in(lines: bytes) -> Iterator[tuple[str, int]]:
    for line in lines.splitlines():
        if line.startswith(b'{"txn"') and (action := json.loads(line)["txn"]):
            yield action["appId"], action["version"]


def _read(fs: FileSystem, path: str) -> bytes:
    with fs.open_input_stream(path) as stream:
        return bytes(stream.read())
