"""The figures of a run: what it has done so far, counted from finished batches.

Enters: batches of FINISHED_SCHEMA. Leaves: counts, and the time that engines were busy. Left to
others: storing them (result.py) and showing them (the command line).
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SAMPLES = 20
"""How many unplaced marks of each reason a run stores, for people to look at."""


_GAPS_KEPT = 1000


@dataclass
class Busy:
    """The time in which one engine had work, in Unix seconds, from (start, end) of its batches.

    Batches overlap and come back in any order, so what they cover is kept as spans without overlap,
    which are few as long as the engine is busy: to add one does not go over all that came before.
    """

    first: float = np.inf
    last: float = -np.inf
    _spans: list[tuple[float, float]] = field(default_factory=list)
    _settled: float = 0.0
    _settled_until: float = -np.inf

    def add(self, start: float, end: float) -> None:
        """Add a batch. One that comes _GAPS_KEPT pauses late counts only from where these end."""
        self.first, self.last = min(self.first, start), max(self.last, end)
        start, end = max(start, self._settled_until), max(end, self._settled_until)
        spans = self._spans
        low = bisect_left(spans, start, key=lambda span: span[1])
        high = bisect_right(spans, end, key=lambda span: span[0])
        if low < high:
            start, end = min(start, spans[low][0]), max(end, spans[high - 1][1])
        spans[low:high] = [(start, end)]
        if len(spans) > 2 * _GAPS_KEPT:
            self._settled += sum(e - s for s, e in spans[:_GAPS_KEPT])
            self._settled_until = spans[_GAPS_KEPT - 1][1]
            del spans[:_GAPS_KEPT]

    @property
    def seconds(self) -> float:
        """How long the engine had work."""
        return self._settled + sum(end - start for start, end in self._spans)


@dataclass
class Figures:
    """Counts over finished rows.

    ``busy``: by engine, when it had work. ``samples``: by
    reason, PMID and text of the first unplaced marks. ``errors``: citations with a failed prompt,
    by the stage of the first failure.
    """

    rows: int = 0
    mentions: int = 0
    prompts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    unplaced: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[tuple[int, str | None]]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    by_engine: Counter[str] = field(default_factory=Counter)
    engine_start_seconds: float = 0.0
    busy: dict[str, Busy] = field(default_factory=dict)

    def add(self, batch: pa.Table) -> None:
        """Count a batch of FINISHED_SCHEMA."""
        self.rows += len(batch)
        self.mentions += _sum(pc.list_value_length(batch["mentions"]))
        self.prompts += _sum(batch["prompt_count"])
        self.prompt_tokens += _sum(batch["prompt_tokens"])
        self.completion_tokens += _sum(batch["completion_tokens"])
        self.statuses.update(batch["status"].to_pylist())
        unplaced = batch["unplaced"].combine_chunks()
        pmids = batch["pmid"].take(pc.list_parent_indices(unplaced)).to_pylist()
        marks = unplaced.flatten().to_pylist()
        self.unplaced.update(m["reason"] for m in marks)
        for pmid, mark in zip(pmids, marks, strict=True):
            samples = self.samples.setdefault(mark["reason"], [])
            if len(samples) < SAMPLES:
                samples.append((pmid, mark["text"]))
        self.errors.update(e.split(":", 1)[0] for e in batch["error"].drop_null().to_pylist())
        self.by_engine.update(batch["engine"].to_pylist())
        self.engine_start_seconds = max(
            self.engine_start_seconds, pc.max(batch["engine_start_seconds"]).as_py() or 0.0
        )
        spans = zip(*(batch[n].to_pylist() for n in ("engine", "started", "finished")), strict=True)
        for engine, started, finished in set(spans):
            self.busy.setdefault(engine, Busy()).add(started, finished)

    def generating_seconds(self) -> float:
        """Seconds from the start of the first batch to the end of the last; 0 without batches."""
        busy = self.busy.values()
        return max(b.last for b in busy) - min(b.first for b in busy) if busy else 0.0

    def busy_share(self) -> float | None:
        """The share of the time from its first to its last batch in which an engine had work, as
        the mean over engines, in [0, 1]; None without batches."""
        spans = [(b.seconds, b.last - b.first) for b in self.busy.values()]
        shares = [busy / length if length > 0 else 1.0 for busy, length in spans]
        return float(np.mean(shares)) if shares else None


@dataclass(frozen=True)
class Reporter:
    """Callbacks that tell of a run's progress: ``planned`` is called once, with the number of
    citations to annotate, ``progressed`` after every batch."""

    planned: Callable[[int], None] = lambda citations: None
    progressed: Callable[[Figures], None] = lambda figures: None


def _sum(values: pa.ChunkedArray) -> int:
    return pc.sum(values).as_py() or 0
