"""The lock that keeps a table to one turn at a time.

Enters: a table's root and a run id. Leaves: the lock for the time of a block, or the name of the
run that has it. Left to others: the table that holds it (tables/lease.py), and correctness: commits
are conditional, so that two turns at once would do no harm but the same work twice.

The holder makes a new version of the lock's table every few seconds. Whoever finds the lock taken
looks on. If it sees a new version, the holder lives. If it has seen none for the length of a lease,
by its own monotonic clock, the holder is dead, and of several that then take the lock the one whose
transaction is first has it. So no two clocks are ever compared. A process of this very machine is
known to be dead at once.

A holder that was stopped for so long that another has the lock finds that out when it next writes
to a table, and fails instead.
"""

import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from deltalake.exceptions import DeltaError

from engine.refresh.process import is_dead, this_process
from engine.tables.exclusive import exclusive
from engine.tables.lease import Entry, Lease
from engine.tables.store import Store
from engine.tables.transactions import MAX_TRIES
from schemas.errors import JobError, UsageError, reason

logger = logging.getLogger(__name__)

LEASE_S = 300.0
"""Seconds without a renewal after which a holder counts as dead. Long, as delta-rs keeps other
threads from running while it waits for a store."""

_RENEWALS = 30
"""Renewals in the time of a lease: one is seen after ten seconds."""
_CONFIRMED = 100
"""A renewal of the last hundredth of a lease is as good as one made now."""


class Held(Exception):
    """Another run has the lock; ``holder`` says which, since when, and where it runs."""

    def __init__(self, holder: str):
        super().__init__(holder)
        self.holder = holder


@contextmanager
def turn(root: str, run_id: str, lease_s: float = LEASE_S) -> Iterator[None]:
    """Keep other turns from the tables at ``root`` (a path or a URI) within the block.

    A lock that is held is watched until the holder shows that it lives, mostly some ten seconds; at
    most for its lease, after which it is taken over. Within the block, a write to a table raises
    JobError if another run has taken the lock over.

    Raises:
        Held: if another run has the lock.
        UsageError: if nothing can be written at ``root``.
    """
    ours = Entry(
        owner=uuid.uuid4().hex,
        run_id=run_id,
        host=os.uname().nodename,
        pid=os.getpid(),
        since=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        process=this_process(),
        lease_s=lease_s,
    )
    try:
        lease = Lease(Store(root).uri("lock"))
        _take(lease, ours)
    except (DeltaError, OSError) as e:
        raise UsageError(f"target {root}: cannot be written: {reason(e)}") from e
    keeper = _Keeper(lease, ours)
    with keeper.renewing(), exclusive(keeper.check):
        yield


def _take(lease: Lease, ours: Entry) -> None:
    """Take the lock, once it is free or its holder is known to be dead.

    Raises:
        Held: if a holder lives.
    """
    for _ in range(MAX_TRIES):
        holder = lease.entry
        if holder and not holder.free and not is_dead(holder.process):
            logger.info("%s has the lock; waiting for a sign of it", holder.describe())
            if _is_renewed(lease, holder.lease_s):
                if lease.entry and not lease.entry.free:
                    raise Held(lease.entry.describe())
                continue
            logger.warning("%s gave no sign for %.0f s", holder.describe(), holder.lease_s)
        if lease.put(ours):
            return
        if lease.entry and not lease.entry.free:
            raise Held(lease.entry.describe())
    raise Held("other runs")


def _is_renewed(lease: Lease, lease_s: float) -> bool:
    """Whether a new version of the lock's table is seen within the seconds of a lease."""
    seen, ends = lease.version, time.monotonic() + lease_s
    while (left := ends - time.monotonic()) > 0:
        time.sleep(min(left, lease_s / _RENEWALS / 3))
        lease.reload()
        if lease.version != seen:
            return True
    return False


class _Keeper:
    """Holds a lock that was taken: renews it, and says whether it still has it."""

    def __init__(self, lease: Lease, ours: Entry):
        self._lease, self._ours = lease, ours
        self._confirmed = time.monotonic()
        self._lost: str | None = None
        self._alone = threading.Lock()  # two threads share the lease
        self._ended = threading.Event()

    @contextmanager
    def renewing(self) -> Iterator[None]:
        """Renew the lock within the block, and free it at its end."""
        thread = threading.Thread(target=self._renew_all_the_time, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join(self._ours.lease_s)
            self._free()

    def check(self) -> None:
        """Make sure that the lock is still ours.

        Raises:
            JobError: if another run has it, or it could not be renewed in the time of a lease.
        """
        age = time.monotonic() - self._confirmed
        if self._lost is None and age > self._ours.lease_s / _CONFIRMED:
            try:
                self._renew()
            except (DeltaError, OSError) as e:
                if age > self._ours.lease_s:
                    why = f"the lock was not renewed for {age:.0f} s: {reason(e)}"
                    raise JobError(why) from e
        if self._lost is not None:
            raise JobError(
                f"the lock was lost to {self._lost}, as it was not renewed in time; nothing more "
                "is committed"
            )

    def _renew_all_the_time(self) -> None:
        while not self._ended.wait(self._ours.lease_s / _RENEWALS) and self._lost is None:
            try:
                self._renew()
            except (DeltaError, OSError) as e:
                logger.warning("the lock could not be renewed: %s", reason(e))

    def _renew(self) -> None:
        with self._alone:
            if self._lost is not None:
                return
            began = time.monotonic()
            renewed = self._lease.renew(self._ours)
            if renewed is None:
                entry = self._lease.entry
                self._lost = entry.describe() if entry else "another run"
            else:
                self._ours, self._confirmed = renewed, began

    def _free(self) -> None:
        with self._alone:
            if self._lost is not None:
                return
            try:
                self._lease.put(replace(self._ours, free=True))
            except (DeltaError, OSError) as e:
                logger.warning("the lock could not be freed: %s", reason(e))
