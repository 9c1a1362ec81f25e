"""Whether tables can be written to at a root, tried with a small one that is removed again.

Enters: a root. Leaves: what was found, in words. Left to others: what stands there (store.py).
"""

import time
import uuid
from contextlib import suppress

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError

from engine.storage.filesystem import filesystem
from engine.tables.root import location
from schemas.errors import JobError

_SKEW_S = 60.0
"""A clock that is further off signs requests that some stores refuse, and dates rows wrongly."""


def try_writing(root: str) -> str:
    """Whether one can write there, and a commit is made once only: by a small table of its own,
    which is removed again.

    Raises:
        JobError: if two commits of one version can both be made, or the clock is off.
        DeltaError, OSError: if nothing can be written.
    """
    uri = location(f"{root.rstrip('/')}/_check-{uuid.uuid4().hex[:12]}")
    began = time.time()
    try:
        made = DeltaTable.create(uri, pa.schema([pa.field("x", pa.int64())]))
        _commit(made)
        with suppress(CommitFailedError):
            _commit(made)  # from the same version: another writer has been faster
            raise JobError(
                "two writers can make the same commit, and one would be lost: the store makes no "
                "conditional writes; expected one that does, or a single writer"
            )
        off = _clock_off(uri, began)
    finally:
        with suppress(Exception):  # never made, or no right to delete: no matter
            fs, path = filesystem(uri)
            fs.rm(path, recursive=True)
    if abs(off) > _SKEW_S:
        raise JobError(f"the store's clock is {off:+.0f} s off this machine's; set the clock")
    return f"can be written to, commits are conditional, clock within {abs(off) + 1:.0f} s"


def _commit(table: DeltaTable) -> None:
    table.create_write_transaction(
        [], mode="append", schema=table.schema(),
        commit_properties=CommitProperties(max_commit_retries=0),
    )  # fmt: skip


def _clock_off(uri: str, began: float) -> float:
    """Seconds by which the store's clock is ahead of this machine's, as far as a file that was just
    written shows; 0 if the store says no times."""
    fs, path = filesystem(uri)
    info = fs.info(f"{path}/_delta_log/{0:020}.json")
    stamp = info.get("mtime") or info.get("LastModified") or info.get("last_modified")
    if stamp is None:
        return 0.0
    at = stamp.timestamp() if hasattr(stamp, "timestamp") else float(stamp)
    now = time.time()
    return at - now if at > now else min(0.0, at - began)
