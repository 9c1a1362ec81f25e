"""Files that a crash has left: written, and never of the table.

Enters: the folder of a table. Leaves: the same without them. No reader ever sees such a file, but
it takes room. What may be deleted is not obvious: a file without a transaction may be one that
another run is about to commit. So a file's name says which process wrote it. Where that can be seen
to be gone, from the same machine, its files are deleted at once; those of other machines when they
are a day old, which no commit takes.

What *was* part of a table is left to ``pubmark vacuum``, as an older version may be read. Delta
forgets that after a week, so nothing is judged here that is nearly as old.
"""

import hashlib
import os
import re
import time
import uuid
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable
from pyarrow.fs import FileSelector, FileSystem, FileType

_NAME = re.compile(r"part-(?:(?P<machine>[0-9a-f]{8})\.(?P<pid>\d+)\.(?P<born>\d+)-)?.*\.parquet")
_UNSEEN_S = 24 * 3600
"""Age from which a file of another machine's is a leftover: no commit takes a day."""

_KNOWN_S = 6 * 24 * 3600
"""Age up to which Delta is sure to know of a file that was part of the table: a week, less one
day."""


def new_name() -> str:
    """The name of a new file of this process."""
    pid = os.getpid()
    return f"part-{_machine()}.{pid}.{_born(pid) or 0}-{uuid.uuid4()}.zstd.parquet"


def is_ours(path: str) -> bool:
    """Whether pubmark wrote a file of a table, and not another program."""
    name = _NAME.fullmatch(path.rpartition("/")[2])
    return name is not None and name["machine"] is not None


def remove_leftovers(folder: FileSystem, uri: str) -> int:
    """Delete from the ``folder`` of the table at ``uri`` what no transaction took over and whose
    writer is gone; says how many files."""
    now = time.time()
    gone = [f.path for f in folder.get_file_info(FileSelector("")) if _is_old(f, now)]
    if not gone:
        return 0
    # Listed before the table is loaded: what was committed in between is seen to be.
    table = DeltaTable(uri)
    known = set(pa.table(table.get_add_actions(flatten=True))["path"].to_pylist())
    known |= set(table.vacuum(0, dry_run=True, enforce_retention_duration=False))
    removed = 0
    for path in gone:
        if path not in known:
            with suppress(OSError):
                folder.delete_file(path)
                removed += 1
    return removed


def _is_old(file: pa.fs.FileInfo, now: float) -> bool:
    """Whether a file cannot be about to be committed, and would still be known if it had been."""
    name = _NAME.fullmatch(file.base_name)
    if file.type != FileType.File or name is None or file.mtime is None:
        return False
    age = now - file.mtime.timestamp()
    if age > _KNOWN_S:
        return False
    if name["machine"] == _machine():
        return _born(int(name["pid"])) != name["born"]
    return age > _UNSEEN_S


@lru_cache(1)
def _machine() -> str:
    """Tells apart what does not see the same processes: machines, containers, and their boots."""
    seen = b""
    for path in (Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")):
        with suppress(OSError):
            seen += str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
    return hashlib.blake2b(seen or uuid.uuid4().bytes, digest_size=4).hexdigest()


def _born(pid: int) -> str | None:
    """When a process began, in ticks; None if there is none of that number."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    return None
