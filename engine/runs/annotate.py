"""Shards into the annotations table: what is new is annotated, what was deleted removed.

Enters: shards, an annotator, a store. Leaves: one run's commits and its row in ``runs``. Left to
others: checking all of it before (the job), and rows that the table holds already
(reannotating.py).
"""

import logging
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable

from engine.planning.baseline import baseline_year, vanished
from engine.planning.plan import Plan, make_plan, spoken_pmids
from engine.planning.settled import settled_pmids, superseded
from engine.runs import datasets
from engine.runs.figures import Reporter
from engine.runs.interrupts import Interrupts
from engine.runs.pipeline import Pool
from engine.runs.result import RunResult, recorded, run_row
from engine.runs.stream import stream_rows
from engine.sources.nlm import nlm_number
from engine.sources.shards import Shard
from engine.steps.annotator import Annotator
from engine.tables.annotators import introduce, refuse_other_task, tasks_of
from engine.tables.committer import Committer
from engine.tables.layout.files import NO_PMIDS, stored_files
from engine.tables.ledger import Ledger, baseline_transaction
from engine.tables.reading import open_dataset, read_keys
from engine.tables.store import Store
from engine.tables.transactions import Overtaken
from schemas.configs.annotate import AnnotateConfig
from schemas.errors import JobError, UsageError

logger = logging.getLogger(__name__)

_MAX_PLANS = 10
_PATCHES_AT_ONCE = 200_000

STATES = {
    "new": "new", "text_changed": "with another text", "other_annotator": "of another annotator",
    "retried": "to retry", "metadata_changed": "with new metadata only",
    "failed_before": "that failed before and are not retried", "unchanged": "unchanged",
    "superseded": "superseded by a later file", "deleted": "to delete",
}  # fmt: skip
"""What a dry run counts, and how it says so."""


def annotate_shards(
    config: AnnotateConfig,
    annotator: Annotator,
    shards: list[Shard],
    store: Store,
    result: RunResult,
    interrupts: Interrupts,
    reporter: Reporter,
) -> None:
    """Annotate all citations of the shards that are not settled, on the cluster that is connected.

    Of ``config`` the sources are not looked at: ``shards`` stand for them.

    Raises:
        UsageError: before anything is written, if the shards hold no citation, or a baseline is
            not what it should be.
        JobError: if the run failed; what was committed before stays.
    """
    job = _Job(config, annotator, store, result, reporter)

    def row() -> dict[str, Any] | None:
        return job.run_row() if job.planned and not config.dry_run else None

    with recorded(result, interrupts, store, row):
        logger.info("reading the keys of %d files", len(shards))
        job.scanned(shards, datasets.scan(shards))
        if config.dry_run:
            job.plan()
            job.count()
        else:
            job.work(interrupts)


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
            citations = datasets.prepared(
                self._shards, plan.wanted, self._annotator, Pool().batch_citations
            )
            prompts, tokens = datasets.count_prompts(citations)
        self._result.empty = plan.empty
        self._result.dry_run = {state: plan.states[state] for state in STATES} | {
            "deleted": len(plan.gone) + len(self._vanished),
            "to_annotate": plan.citations,
            "prompts": prompts,
            "prompt_tokens": tokens,
        }

    def run_row(self) -> dict[str, Any]:
        """The run's row in ``runs``."""
        assert self.planned is not None
        files = [
            {
                "source": shard.name,
                "citations": report.citations,
                "rejected": len(report.rejected),
                "deleted": report.deleted,
                "damage": report.damage,
                "md5": shard.md5,
            }
            for shard, report in zip(self._shards, self.planned.reports, strict=True)
        ]
        return run_row(self._result, self._annotator, "annotate") | {"files": files}

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
        given = baseline_year(self._shards) if self._config.baseline else 0
        return max(given, 0 if self._config.force else self._ledger.baseline or 0)

    def _find_vanished(self, plan: Plan) -> np.ndarray:
        """The PMIDs of rows that the given baseline no longer holds."""
        config, result = self._config, self._result
        if not config.baseline or self._table is None or _is_cut(plan):
            return NO_PMIDS
        if result.damaged or result.rejected:
            logger.warning("what the baseline no longer holds is left: it was not read in full")
            return NO_PMIDS
        year = baseline_year(self._shards)
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
            stream_rows(
                partial(datasets.prepared, self._shards, plan.wanted, self._annotator),
                plan.citations,
                self._annotator,
                config,
                committer,
                self._store,
                result,
                interrupts,
                self._reporter,
            )
        waiting: list[pa.Table] = []
        if plan.states["metadata_changed"]:
            for batch in datasets.read_metadata(self._shards, plan.revised):
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
        introduce(self._store, self._annotator, self._result.run_id)
        if self._table is None and stored_files(created):
            raise Overtaken  # another run has made the table and written to it
        return self._committer_on(self._table or created, plan.present)

    def _committer_on(self, table: DeltaTable, present: np.ndarray | None) -> Committer:
        def check(newest: DeltaTable) -> None:
            if not self._config.force:
                try:
                    refuse_other_task(self._store, self._annotator, newest)
                except UsageError as e:
                    raise JobError(f"{e} (written by another run meanwhile)") from e

        return Committer(
            table,
            present,
            partial(settled_pmids, retry=self._config.retry),
            superseded=partial(superseded, self._store),
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


def _remove_other_tasks(
    store: Store, annotator: Annotator, committer: Committer, result: RunResult
) -> None:
    """After --force has replaced what the sources hold: a table has one task at a time."""
    if result.damaged or result.rejected:
        # What could not be read has rows that only look as if the sources held them no longer.
        logger.warning("rows of the former task are left: the sources were not read in full")
        return
    others = [
        a for a, types in tasks_of(store).items() if types != set(annotator.task.entity_types)
    ]
    if others:
        removed = committer.remove_annotators(others)
        logger.info("removed %d citations of the table's former task", removed)
