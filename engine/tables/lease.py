"""A lock as a small Delta table: its newest version says who has it.

Enters: a table's URI. Leaves: the entry that its newest version holds, and new versions, each made
only if nobody has made one meanwhile. Left to others: who may take the lock, and when
(refresh/lock.py).

An entry is the JSON of a version's own metadata, so that a version is one small file of the log and
nothing else. That a version is made once is what delta-rs promises of every transaction, on a disk
and on an object store. Nothing here depends on a clock.
"""

import json
from dataclasses import asdict, dataclass, fields, replace

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from schemas.errors import UsageError

_KEY = "pubmark.lock"
_SCHEMA = pa.schema([pa.field("run_id", pa.string())])
_CONFIGURATION: dict[str, str | None] = {
    "pubmark.schema_version": "1",
    # On an object store, taking and freeing the lock is 30 to 66 requests, most of them to read the
    # log from its last checkpoint on; with an interval of 8, 82 at most.
    "delta.checkpointInterval": "4",
    "delta.logRetentionDuration": "interval 1 days",
}
_STORAGE = {"timeout": "20s", "max_retries": "3"}
"""A renewal must not wait for a store for longer than a lease lasts."""
_LONGEST_LEASE_S = 3600.0
"""An entry of a longer one is not believed: nobody waits for days."""
_LOOKED_BACK = 20
"""Another program may have made the newest versions: so many are looked at."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Who has the lock, or had it until it was ``free``.

    ``owner`` is a token of the one acquisition, ``process`` that of its process (see
    :func:`engine.refresh.process.this_process`). ``lease_s`` are seconds without a renewal after
    which others may take the lock; ``beat`` counts the renewals. The time ``since`` when is for
    people.
    """

    owner: str
    run_id: str
    host: str
    pid: int
    since: str
    process: str | None
    lease_s: float
    beat: int = 0
    free: bool = False

    def describe(self) -> str:
        """For a person."""
        return f"run {self.run_id}, since {self.since}, process {self.pid} on {self.host}"


class Lease:
    """The lock at ``uri``, as it was last seen: ``version`` of the table, and ``entry`` (None: it
    was never taken). The table is made if it is not there.

    Raises:
        UsageError: if the table is another program's.
        DeltaError, OSError: if it cannot be read or made.
    """

    def __init__(self, uri: str):
        self._uri = uri
        self.version = -1
        self.entry: Entry | None = None
        try:
            self._table = DeltaTable(uri, storage_options=_STORAGE)
        except TableNotFoundError:
            self._table = self._create()
        if "pubmark.schema_version" not in self._table.metadata().configuration:
            raise UsageError(f"target {uri}: is a table of another program")
        self._read()

    def reload(self) -> None:
        """See the newest version."""
        before = self.version
        self._table.update_incremental()
        if self._table.version() != before:
            self._read()

    def put(self, entry: Entry) -> bool:
        """Make a version that holds ``entry``, if the version last seen is still the newest.

        False if another was faster. Either way the newest version is then seen.
        """
        if self._table.version() < self.version:  # a table does not see its own transaction
            self._table.update_incremental()
        before = self.version
        if self._table.version() != before:
            self._read()
            return False
        try:
            self._table.create_write_transaction(
                [], mode="append", schema=self._table.schema(),
                commit_properties=CommitProperties(
                    custom_metadata={_KEY: json.dumps(asdict(entry))}, max_commit_retries=0
                ),
                post_commithook_properties=PostCommitHookProperties(
                    create_checkpoint=True, cleanup_expired_logs=entry.free
                ),
            )  # fmt: skip
        except CommitFailedError:
            self.reload()
            if self.version == before:  # nobody was faster: it failed by itself
                raise
            return self.entry == entry  # it was made, and only the answer was lost
        self.version, self.entry = before + 1, entry
        return True

    def renew(self, entry: Entry) -> Entry | None:
        """Count ``entry``, which has the lock, one beat up; None if it no longer has it."""
        renewed = replace(entry, beat=entry.beat + 1)
        while not self.put(renewed):
            if self.entry is None or self.entry.owner != entry.owner:
                return None
        return renewed

    def _create(self) -> DeltaTable:
        try:
            return DeltaTable.create(
                self._uri, schema=_SCHEMA, mode="ignore", name="pubmark lock",
                configuration=_CONFIGURATION, raise_if_key_not_exists=False,
                storage_options=_STORAGE,
            )  # fmt: skip
        except (DeltaError, OSError):
            try:
                return DeltaTable(self._uri, storage_options=_STORAGE)  # another was faster
            except TableNotFoundError:
                pass
            raise

    def _read(self) -> None:
        self.version = self._table.version()
        self.entry = None
        for count in (1, _LOOKED_BACK):
            for commit in self._table.history(count):
                if found := commit.get(_KEY):
                    self.entry = _parse(found)
                    return


def _parse(text: str) -> Entry | None:
    """An entry, also of a later version with more fields; None of a text that is none."""
    try:
        values = json.loads(text)
        entry = Entry(**{f.name: values[f.name] for f in fields(Entry) if f.name in values})
        return replace(entry, lease_s=min(max(0.0, float(entry.lease_s)), _LONGEST_LEASE_S))
    except (ValueError, TypeError):
        return None
