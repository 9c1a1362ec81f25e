"""Shards into the annotations table: what is new is annotated, what was deleted removed.

Enters: a run and its shards. Leaves: the run's commits and its row in ``runs``. Left to others:
checking all of it before (the job), what is to be done (planning), and rows that the table holds
already (reannotate.py).
"""

import logging
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import Transaction

from engine.planning.intake import Intake
from engine.planning.plan import Plan
from engine.runs import datasets
from engine.runs.committing import committer_of, place_staged
from engine.runs.pipeline import Pool, plan_engines
from engine.runs.result import Run, run_row
from engine.runs.stream import stream_rows
from engine.sources.shards import Shard
from engine.tables.annotators import introduce, tasks_of
from engine.tables.committer import Committer
from engine.tables.layout.files import stored_files
from engine.tables.ledger import baseline_transaction
from engine.tables.maintenance import remove_leftovers
from engine.tables.transactions import Overtaken
from schemas.configs.annotate import AnnotateConfig
from schemas.errors import JobError, UsageError

logger = logging.getLogger(__name__)

_MAX_PLANS = 10
_PATCHES_AT_ONCE = 200_000
"""Rows of new metadata that are held before they are committed, some 100 MB."""

STATES = {
    "new": "new", "text_changed": "with another text", "other_annotator": "of another annotator",
    "retried": "to retry", "metadata_changed": "with new metadata only",
    "failed_before": "that failed before and are not retried", "unchanged": "unchanged",
    "superseded": "superseded by a later file", "deleted": "to delete",
}  # fmt: skip
"""What a dry run counts, and how it says so."""


def annotate_shards(run: Run[AnnotateConfig], shards: list[Shard]) -> None:
    """Annotate all citations of the shards that are not settled, on the cluster that is connected.

    Of the run's options the sources are not looked at: ``shards`` stand for them.

    Raises:
        UsageError: before anything is written, if the shards hold no citation, or a baseline is
            not what it should be.
        JobError: if the run failed; what was committed before stays.
    """
    job = _Job(run)
    with run.recorded(job.row):
        logger.info("reading the keys of %d files", len(shards))
        job.scan(shards)
        if run.options.dry_run:
            job.count()
        else:
            job.work()


class _Job:
    """One run: what it was given, and what is planned."""

    def __init__(self, run: Run[AnnotateConfig]):
        self._run = run
        run.result.job = "annotate"
        self._planned: Plan | None = None

    def scan(self, shards: list[Shard]) -> None:
        """Read the keys of all shards."""
        run = self._run
        self._intake = Intake(run.options, run.store, shards, datasets.scan(shards))

    def work(self) -> None:
        """Do all that is to be done; plan again where another writer has come between."""
        run = self._run
        if left := remove_leftovers(run.store):
            logger.info("deleted %d files that a crashed run has left", left)
        for _ in range(_MAX_PLANS):
            if run.store.exists():
                run.store.create()  # with the columns that an older version did not have
                committer = committer_of(run, run.store.load(), None, **self._rules())
                place_staged(run, committer)
            plan, vanished = self._plan()
            try:
                return self._do(plan, vanished)
            except Overtaken:
                logger.info("another writer has changed the table: planning again")
        raise JobError(f"{run.store.root}: other writers changed the table {_MAX_PLANS} times")

    def count(self) -> None:
        """What the work would cost; nothing is written."""
        run, (plan, vanished) = self._run, self._plan()
        prompts = tokens = 0
        if plan.citations:
            citations = datasets.prepared(
                self._intake.shards, plan.wanted, run.annotator, Pool().batch_citations
            )
            prompts, tokens = datasets.count_prompts(citations)
        run.result.empty = plan.empty
        run.result.dry_run = {state: plan.states[state] for state in STATES} | {
            "deleted": len(plan.gone) + len(vanished),
            "to_annotate": plan.citations,
            "prompts": prompts,
            "prompt_tokens": tokens,
        }

    def row(self) -> dict[str, Any] | None:
        """The run's row in ``runs``; None if it came to no plan, or only counted."""
        if self._planned is None or self._run.options.dry_run:
            return None
        files = [
            {
                "source": shard.name,
                "citations": report.citations,
                "rejected": len(report.rejected),
                "deleted": report.deleted,
                "damage": report.damage,
                "md5": shard.md5,
            }
            for shard, report in zip(self._intake.shards, self._planned.reports, strict=True)
        ]
        return run_row(self._run) | {"files": files}

    def _plan(self) -> tuple[Plan, np.ndarray]:
        """What is to be done as the table is now, and what the given baseline no longer holds."""
        plan = self._intake.plan(self._run.annotator.fingerprint)
        if self._planned is None:
            self._report(plan)
        vanished = self._intake.vanished(plan)
        problems = self._run.result.problems
        problems += [p for p in self._intake.problems if p not in problems]
        self._planned = plan
        return plan, vanished

    def _report(self, plan: Plan) -> None:
        run, result = self._run, self._run.result
        for shard, report in zip(self._intake.shards, plan.reports, strict=True):
            result.rejected += len(report.rejected)
            result.problems += [f"{shard.shown}: rejected {line}" for line in report.rejected]
            if report.damage:
                result.damaged += 1
                result.problems.append(f"{shard.shown}: damaged {report.damage}")
        for problem in result.problems:
            logger.warning("%s", problem)
        result.read, result.settled = plan.read, plan.settled
        told = any(r.deleted or r.rejected for r in plan.reports)
        if not plan.read and plan.is_whole and not told:
            raise UsageError(f"no citations in {', '.join(run.options.sources)}")
        logger.info("%d citations read: %d settled, %d to annotate",
                    plan.read, plan.settled, plan.citations)  # fmt: skip
        run.reporter.planned(plan.citations)

    def _rules(self) -> dict[str, Any]:
        options = self._run.options
        return {"retry": options.retry, "any_task": options.force}

    def _do(self, plan: Plan, vanished: np.ndarray) -> None:
        """Annotate, then, in one transaction, do the rest and say that the files are taken in.

        Raises:
            Overtaken: if another writer changed what was planned on.
        """
        run, intake = self._run, self._intake
        if intake.table is None and not plan.citations and all(r.damage for r in plan.reports):
            return
        # Before anything is made: engines that cannot be had are no reason to touch the target.
        engines = plan_engines(run.options, run.annotator) if plan.citations else None
        committer = self._committer(plan)
        if engines:
            prepare = partial(datasets.prepared, intake.shards, plan.wanted, run.annotator)
            stream_rows(run, prepare, plan.citations, committer, engines)
        patches = self._patch(plan, committer)
        gone = np.union1d(plan.gone, vanished)
        done = committer.finish(patches, gone, self._take_in(plan))
        run.result.revised += done.patched
        run.result.deleted += done.deleted
        if done.replaced or done.patched or done.deleted:
            logger.info(
                "replaced %d citations, %d more got new metadata, %d deleted: %.0f MB written",
                done.replaced, done.patched, done.deleted, done.bytes_written / 1e6,
            )  # fmt: skip
        if run.options.force:
            _remove_other_tasks(run, plan, committer)

    def _committer(self, plan: Plan) -> Committer:
        """Make what tables are not there yet, and what commits to them."""
        run, table = self._run, self._intake.table
        created = run.store.create()
        introduce(run.store, run.annotator, run.run_id)
        if table is None and stored_files(created):
            raise Overtaken  # another run has made the table and written to it
        return committer_of(
            run,
            table or created,
            plan.present,
            dropped=self._intake.superseded,
            **self._rules(),
        )

    def _patch(self, plan: Plan, committer: Committer) -> pa.Table | None:
        """New metadata of settled citations, committed in large pieces; the last one is given."""
        waiting: list[pa.Table] = []
        if plan.states["metadata_changed"]:
            for batch in datasets.read_metadata(self._intake.shards, plan.revised):
                waiting.append(batch)
                if sum(map(len, waiting)) >= _PATCHES_AT_ONCE:
                    patched = committer.finish(pa.concat_tables(waiting)).patched
                    self._run.result.revised += patched
                    waiting = []
        return pa.concat_tables(waiting) if waiting else None

    def _take_in(self, plan: Plan) -> list[Transaction]:
        """What says that the files are taken in; nothing if some of them is left for later."""
        run, intake = self._run, self._intake
        if plan.is_cut:
            return []
        replace = run.options.force and plan.is_whole
        transactions = intake.ledger.take_in(intake.scans, intake.names, run.run_id, replace)
        if (year := intake.given_baseline) and year > (intake.ledger.baseline or 0):
            transactions.append(baseline_transaction(year))
        return transactions


def _remove_other_tasks(run: Run[AnnotateConfig], plan: Plan, committer: Committer) -> None:
    """After --force has replaced what the sources hold: a table has one task at a time."""
    if not plan.is_whole:
        # What could not be read has rows that only look as if the sources held them no longer.
        logger.warning("rows of the former task are left: the sources were not read in full")
        return
    own = set(run.annotator.task.entity_types)
    if others := [a for a, types in tasks_of(run.store).items() if types != own]:
        removed = committer.remove_annotators(others)
        logger.info("removed %d citations of the table's former task", removed)
