"""What is remembered of engines that were lost: how often in a row, and with what in hand.

An engine is lost when its process ends before it should: it crashed, it hung, or its machine was
taken away. Ray then starts it again, as often as it takes. Enters: what an engine takes in hand and
finishes. Leaves: whether it may start once more, and which citations are to be asked about with
care. Left to others: starting engines (engine/runs/pipeline.py) and asking (generate.py).

The memory is in the key-value store of Ray's head, since a lost engine may have lost its machine
too. Each engine writes one entry, twice a batch.
"""

import contextlib
import json
import logging
import os
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field

from ray.experimental import internal_kv
from ray.runtime_context import get_runtime_context

from schemas.errors import EngineLost

logger = logging.getLogger(__name__)

MAX_LOSSES = 4
"""How often in a row an engine may be lost while no engine of the run finishes a citation. Losses
between which citations were finished are not bounded: over a week, spot machines go often."""

ALONE_AFTER = 2
"""After so many losses with a batch in hand its citations are asked about one at a time; those of
every batch after so many in a row, since any of them may be the cause. With :data:`MAX_LOSSES` this
leaves two citations to be found that end the engine before one is that does not."""

GIVEN_UP_AFTER = 2
"""A citation that engines were lost with so often, while they had no other, is not asked about."""

_NAMESPACE = "pubmark"
_NO_REASON = "its process was killed, as for want of memory, or its machine was taken away"


@dataclass(slots=True)
class _Entry:
    """What one engine has written.

    ``lost`` counts its losses, ``in_a_row`` those since a citation was last finished. ``finished``
    are the citations that it finished, ``seen`` those that all engines had when it last started.
    ``reason`` is what it says before its end, ``last`` why it was last lost. ``hands``: by batch
    that is in hand, how often the engine was lost with it. ``now`` is the citation that it has
    alone; ``alone``: by citation, how often it was lost while it had that one alone.
    """

    node: str = ""
    lost: int = 0
    in_a_row: int = 0
    finished: int = 0
    seen: int = 0
    reason: str = ""
    last: str = ""
    hands: dict[str, int] = field(default_factory=dict)
    now: str = ""
    alone: dict[str, int] = field(default_factory=dict)


class Losses:
    """The losses of one engine, which belongs to the engines of ``pool``.

    Without a pool, as where there is no Ray, nothing is remembered beyond this process.
    """

    def __init__(self, pool: str | None = None) -> None:
        self._pool = pool if pool and internal_kv._internal_kv_initialized() else None
        self._key = f"{pool}/{get_runtime_context().get_actor_id()}" if self._pool else ""
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="losses")
        self._entry = _Entry()
        self._finished_before = 0

    def start(self) -> None:
        """Note that the engine starts, the first time or because it was lost.

        Raises:
            EngineLost: if it was lost too often in a row. The message has the last reason, and the
                citations that it had in hand.
        """
        entries = _entries(self._pool)
        finished = sum(e.finished for e in entries.values())
        if entry := entries.get(self._key):
            entry.lost += 1
            entry.in_a_row = 1 if finished > entry.seen else entry.in_a_row + 1
            entry.hands = {batch: losses + 1 for batch, losses in entry.hands.items()}
            if entry.now:
                entry.alone[entry.now] = entry.alone.get(entry.now, 0) + 1
                entry.now = ""
            entry.last = entry.reason or _NO_REASON
            if entry.in_a_row > MAX_LOSSES:
                raise EngineLost(
                    f"an engine was lost {entry.in_a_row} times in a row while no citation was "
                    f"finished, the last time on {entry.node}: {entry.last}"
                    + (f"; it had PMID {', '.join(list(entry.hands)[:3])}" if entry.hands else "")
                )
            self._entry = entry
        self._finished_before = self._entry.finished
        self._entry.node = os.uname().nodename
        self._entry.seen, self._entry.reason = finished, ""
        self._write(wait=True)

    def take(self, batch: str) -> bool:
        """Note that a batch is in hand; whether its citations are to be asked about one at a time,
        as the engine was lost with it before, or again and again."""
        losses = self._entry.hands.setdefault(batch, 0)
        self._write()
        nothing_yet = self._entry.finished == self._finished_before
        return losses >= ALONE_AFTER or (nothing_yet and self._entry.in_a_row >= ALONE_AFTER)

    def in_order(self, citations: Sequence[str]) -> list[int]:
        """The positions of a batch's citations in the order to ask about them one at a time.

        The suspects come last, since what the others finish is progress. The rest come in an order
        that is another after each loss, so that citations which end the engine and stand side by
        side, as the parts of one long list might, are not met one after the other.
        """
        order = list(range(len(citations)))
        random.Random(self._entry.lost).shuffle(order)
        return sorted(order, key=lambda i: self.suspicion(citations[i]))

    def finish(self, batch: str, citations: int) -> None:
        """Note that a batch is done; ``citations`` are those that were not counted before."""
        self._entry.hands.pop(batch, None)
        self._entry.finished += citations
        self._write()

    def suspicion(self, citation: str) -> int:
        """How often the engine was lost while it had this citation alone."""
        return self._entry.alone.get(citation, 0)

    @contextlib.contextmanager
    def alone(self, citation: str) -> Iterator[None]:
        """Within the block the engine has this citation and no other; it counts as finished
        afterwards."""
        self._entry.now = citation
        self._write(wait=True)
        yield
        self._entry.now = ""
        self._entry.alone.pop(citation, None)
        self._entry.finished += 1
        self._write()

    def say(self, reason: str) -> None:
        """Note why the engine is about to be lost."""
        self._entry.reason = reason
        self._write(wait=True)

    def _write(self, wait: bool = False) -> None:
        """Store the entry: by a thread, since a batch must not wait for the head; or ``wait``."""
        if self._pool is None:
            return
        value = json.dumps(asdict(self._entry))
        done = self._writer.submit(_put, self._key, value)
        if wait:
            # If the head does not answer, the engine goes on: the memory is for when it is lost.
            with contextlib.suppress(TimeoutError):
                done.result(timeout=5)


def _put(key: str, value: str) -> None:
    try:
        internal_kv._internal_kv_put(key, value, namespace=_NAMESPACE)
    except Exception as e:
        logger.warning("what an engine has in hand cannot be noted: %s", e)


class Watcher:
    """The losses of all engines of a pool, as the driver sees them."""

    def __init__(self, pool: str) -> None:
        self._pool = pool
        self._told: dict[str, int] = {}

    def news(self) -> Iterator[str]:
        """Yield a line for a person about each engine that was lost and has started again since
        this was last called."""
        for key, entry in _entries(self._pool).items():
            if entry.lost > self._told.get(key, 0):
                self._told[key] = entry.lost
                times = f"{entry.lost} times so far" if entry.lost > 1 else "once so far"
                yield f"an engine was lost ({times}) and runs again, on {entry.node}: {entry.last}"

    def forget(self) -> None:
        """Remove all that the pool's engines have written."""
        with contextlib.suppress(Exception):  # the head may be gone, and what it kept with it
            internal_kv._internal_kv_del(f"{self._pool}/", del_by_prefix=True, namespace=_NAMESPACE)


def _entries(pool: str | None) -> dict[str, _Entry]:
    """What the engines of a pool have written, by key; nothing if the head does not answer."""
    if pool is None:
        return {}
    entries = {}
    try:
        for key in internal_kv._internal_kv_list(f"{pool}/", namespace=_NAMESPACE):
            if value := internal_kv._internal_kv_get(key, namespace=_NAMESPACE):
                entries[key.decode()] = _Entry(**json.loads(value))
    except Exception as e:
        logger.warning("what was noted of lost engines cannot be read: %s", e)
    return entries
