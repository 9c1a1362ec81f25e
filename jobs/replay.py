"""``pubmark replay``: failed citations annotated again, from the texts that the table holds."""

from dataclasses import dataclass

from deltalake import DeltaTable

from engine.backends import backend_class
from engine.runs.cluster import connected
from engine.runs.figures import Reporter
from engine.runs.interrupts import Interrupts
from engine.runs.reannotate import reannotate
from engine.runs.result import Run, RunResult
from engine.steps.annotator import Annotator, annotator_of
from engine.tables.annotators import (
    current_annotator,
    entity_types_of,
    refuse_other_task,
    restore_annotator,
)
from engine.tables.rows import Selection, count_annotators, with_status
from engine.tables.store import Store
from schemas.configs.annotate import ReplayConfig
from schemas.errors import UsageError


@dataclass(frozen=True)
class ReplayResult:
    """What was selected, and the run over it.

    ``found`` counts the selected rows, ``textless`` those of them without a stored text, which were
    left as they are. ``run`` is None if there was nothing to do, or for a dry run.
    """

    found: int
    textless: int
    run: RunResult | None = None

    def summary(self) -> dict[str, object]:
        """The object that ``--json`` prints."""
        done = self.run.summary() if self.run else {}
        return {"found": self.found, "textless": self.textless, **done}

    def exit_code(self, max_failed: float) -> int:
        """0, 3 or 130, as the command line promises. It is 3 if citations failed again or had no
        text."""
        code = self.run.exit_code(strict=False, max_failed=max_failed) if self.run else 0
        return code or (3 if self.textless else 0)


def run(
    config: ReplayConfig, reporter: Reporter | None = None, verbose: bool = False
) -> ReplayResult:
    """Annotate again the rows that the config selects by status, reason and PMID.

    Raises:
        UsageError: before anything is started; also if none of the selected rows has a text.
        JobError: if the run failed; what was committed before stays.
    """
    store = Store(config.to)
    store.check()
    store.require()
    backend_class(config.backend)
    annotator = _annotator(store, config)
    refuse_other_task(store, annotator)

    def select(table: DeltaTable) -> Selection:
        return with_status(table, config.status, config.reason, config.pmids)

    selected = select(store.load())
    if selected.textless and not len(selected.pmids):
        raise UsageError(
            f"{config.to}: {selected.textless:,} citations are as asked for, and none has its text "
            "in the table; run `pubmark annotate` on their sources with --retry "
            + ",".join(config.status)
        )
    every = len(selected.pmids) + selected.textless
    if config.dry_run or not every:
        return ReplayResult(every, selected.textless)
    with connected(verbose), Interrupts() as interrupts:
        run = Run(annotator, config, store, interrupts, reporter or Reporter())
        # Selected anew: while the engines' cluster started, another run may have deleted some.
        reannotate("replay", run, select, retry=config.status)
    return ReplayResult(run.result.read + selected.textless, selected.textless, run.result)


def describe(result: ReplayResult, target: str) -> str:
    """The result, in lines for a person; ``target`` is the root of the tables."""
    lines = [f"{result.found:,} citations are as asked for"]
    if result.textless:
        lines.append(
            f"{result.textless:,} of them have no text in the table; `pubmark annotate` with "
            "--retry does them again from their sources"
        )
    if done := result.run:
        well = done.annotated - done.failed - done.partial
        lines.append(
            f"{done.annotated:,} done again: {well:,} well now, {done.partial:,} in part, "
            f"{done.failed:,} failed"
        )
        lines.append(f"{done.outcome}: run {done.run_id}, table {target}")
    return "\n".join(lines)


def _annotator(store: Store, config: ReplayConfig) -> Annotator:
    """The annotator to use: that of the config's checkpoint, for the table's entity types; without
    one, the annotator that made most of the table's rows.

    Raises:
        UsageError: if the table has no rows, or the annotator's checkpoint cannot be loaded.
    """
    fingerprint = current_annotator(store, count_annotators(store.load()))
    if fingerprint is None:
        raise UsageError(f"{store.root}: has no rows")
    if config.checkpoint is not None:
        types = entity_types_of(store, fingerprint)
        return annotator_of(config.checkpoint, types, config.serving)
    try:
        return restore_annotator(store, fingerprint)
    except UsageError as e:
        raise UsageError(f"{e}; name one with --checkpoint") from e
