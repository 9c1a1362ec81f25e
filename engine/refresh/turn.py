"""One scheduled turn: everything that has become due since the last one, in order.

Enters: a checked config, and the annotator that all rows are to be of. Leaves: what was done, with
problems in words. Left to others: keeping other turns away (lock.py), the files (fetch.py), the
gate (gate.py), annotating (runs) and the tables.

Modules that load Ray are imported only when there is something to annotate or to try, which in most
turns there is not.
"""

import logging
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from deltalake import DeltaTable

from engine.planning.baseline import missing_numbers, numbers_of
from engine.refresh.fetch import current_shards, fetch
from engine.refresh.gate import Gate
from engine.refresh.pending import pending
from engine.runs.figures import Reporter
from engine.scoring.comparison import Comparison
from engine.sources.nlm import nlm_number
from engine.sources.shards import Shard
from engine.steps.annotator import Annotator
from engine.tables.annotators import current_annotator, restore_annotator
from engine.tables.decisions import Decision
from engine.tables.layout.compaction import loose_files
from engine.tables.ledger import Ledger
from engine.tables.maintenance import compact, vacuum
from engine.tables.rows import count_annotators, stale
from engine.tables.store import Store
from schemas.configs.annotate import AnnotateConfig
from schemas.configs.refresh import RefreshConfig
from schemas.errors import UsageError

if TYPE_CHECKING:
    from engine.runs.interrupts import Interrupts
    from engine.runs.result import RunResult
    from schemas.configs.options import WriteOptions

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """How many rows of a table are of the annotator that all are to be of: ``done`` of ``rows``."""

    annotator: str
    done: int
    rows: int


def progress(table: DeltaTable, annotator: str) -> Progress:
    """How far a table has come with an annotator."""
    counts = count_annotators(table)
    return Progress(annotator, counts[annotator], counts.total())


@dataclass
class RefreshResult:
    """What one turn did.

    ``holder`` is the run that had the lock, if the turn was held up by one. ``fetched`` counts the
    files that the mirror fetched, ``files`` those that the table had not taken in, ``remade`` the
    rows of another annotator that were made anew, ``compacted`` and ``vacuumed`` files of the
    table. Other counts are those of ``annotate``. ``problems`` are lines for a person; if there is
    one, the exit code is 3.
    """

    run_id: str
    outcome: Literal["nothing to do", "done", "held", "interrupted"] = "nothing to do"
    holder: str | None = None
    fetched: int = 0
    files: int = 0
    annotated: int = 0
    revised: int = 0
    deleted: int = 0
    partial: int = 0
    failed: int = 0
    remade: int = 0
    decision: Decision | None = None
    comparison: Comparison | None = None
    progress: Progress | None = None
    compacted: int = 0
    vacuumed: int = 0
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def summary(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        names = ("run_id", "outcome", "holder", "fetched", "files", "annotated", "revised",
                 "deleted", "partial", "failed", "remade")  # fmt: skip
        return {n: getattr(self, n) for n in names} | {
            "gate": self.decision
            and asdict(self.decision)
            | {"comparison": self.comparison.summary() if self.comparison else None},
            "rollout": asdict(self.progress) if self.progress else None,
            "compacted": self.compacted,
            "vacuumed": self.vacuumed,
            "problems": self.problems,
            "seconds": self.seconds,
        }

    def exit_code(self) -> int:
        """0, 3 or 130, as the command line promises. It is no problem that another turn goes on:
        the scheduler starts the next one in an hour."""
        if self.outcome == "interrupted":
            return 130
        return 3 if self.problems else 0


class Turn:
    """One turn over the tables of ``store``, whose rows are to be of ``candidate``. ``result`` is
    filled as the turn proceeds, so that it holds what was done also if the turn is interrupted.
    ``lock`` keeps other turns away within a block, and raises if there is one."""

    def __init__(
        self,
        config: RefreshConfig,
        store: Store,
        candidate: Annotator,
        result: RefreshResult,
        reporter: Reporter,
        verbose: bool,
        lock: Callable[[], AbstractContextManager[None]] = nullcontext,
    ):
        self._config, self._store, self._candidate = config, store, candidate
        self._result, self._reporter, self._verbose = result, reporter, verbose
        self._lock = lock
        # To take and free the lock of an object store is some 50 requests, and a turn with nothing
        # to do makes 80 others. A mirror may have something to fetch, so there it is taken first.
        self._looks_first = "://" in config.to and config.mirror is None

    def take(self) -> None:
        """Do everything that is due.

        Raises:
            KeyboardInterrupt: if the turn was interrupted; what was finished is committed.
            JobError: if the engines or the table failed.
        """
        problems = self._result.problems
        if self._looks_first:
            before = len(problems)
            if not self._look(None):
                self._measure()
                return
            del problems[before:]  # what is still so is told again
        with self._lock():
            self._look(self._fetch())
            self._work()
            self._measure()

    def _look(self, baseline: tuple[int, int] | None) -> bool:
        """See what is due, without writing anything; gives whether something is."""
        store, result = self._store, self._result
        table = self._table = store.find()
        self._shards, self._baseline_files = self._new_shards(Ledger(store, table), baseline)
        result.files = len(self._shards)
        self._counts = count_annotators(table) if table else Counter[str]()
        self._current = current_annotator(store, self._counts)
        self._gate = Gate(self._config.gate, store, self._candidate, self._current)
        self._note_refusal()
        return self._needs_engines() or (table is not None and self._is_loose(table))

    def _needs_engines(self) -> bool:
        return bool(self._shards) or self._gate.is_open or self._has_stale_rows()

    def _work(self) -> None:
        """Do what was seen to be due."""
        store = self._store
        if self._needs_engines():
            self._result.outcome = "done"
            # Only now: Ray takes seconds to load and to start.
            from engine.runs.cluster import connected
            from engine.runs.interrupts import Interrupts

            with connected(self._verbose), Interrupts() as interrupts:
                if self._gate.is_open:
                    self._ask_gate()
                if self._shards:
                    self._annotate(self._shards, self._baseline_files, interrupts)
                if self._has_stale_rows():
                    self._reannotate(interrupts)
            self._table = store.find()
        if self._table and self._tidy(self._table):
            self._table = store.load()

    def _measure(self) -> None:
        """Note how far the table has come with its annotator."""
        target = self._current if self._gate.refusal else self._candidate.fingerprint
        if self._table and target is not None:
            self._result.progress = progress(self._table, target)

    def _fetch(self) -> tuple[int, int] | None:
        """Fetch NLM's new files; gives the year of the baseline and its number of files if the
        mirror has all of it."""
        result, fetched = self._result, fetch(self._config.mirror)
        result.fetched = fetched.files
        result.problems += fetched.problems
        if result.fetched:
            result.outcome = "done"
        if fetched.interrupted:
            raise KeyboardInterrupt
        return fetched.baseline

    def _new_shards(
        self, ledger: Ledger, mirrored: tuple[int, int] | None
    ) -> tuple[list[Shard], int | None]:
        """The files that the table has not taken in, and, if with them it has all of a new year's
        baseline, the number of files of that.

        ``mirrored`` is the year and the number of files of the baseline that the mirror has. Of
        NLM's citations, those that no file of that year holds are then deleted, if the config has
        ``baseline``.
        """
        config, problems = self._config, self._result.problems
        try:
            shards = current_shards(config)
        except UsageError as e:  # as where nothing has been mirrored yet
            problems.append(str(e))
            return [], None
        new = pending(shards, ledger, config.mirror.to if config.mirror else None)
        if not config.baseline or mirrored is None or mirrored[0] <= (ledger.baseline or 0):
            return new, None
        year, files = mirrored
        if missing := missing_numbers(numbers_of(shards, year) | ledger.numbers(year), files):
            problems.append(
                f"the baseline of year {year} waits for {len(missing)} files, the first "
                f"{missing[0]:04}"
            )
            return new, None
        # NLM's files of earlier years count no more.
        new = [s for s in new if (n := nlm_number(s.name)) is None or n[0] >= year]
        if not numbers_of(new, year):
            # All were taken in without its being noted: one of them stands for the baseline.
            new += [s for s in shards if nlm_number(s.name) == mirrored]
        return new, files if numbers_of(new, year) else None

    def _ask_gate(self) -> None:
        result, gate = self._result, self._gate
        result.problems += gate.decide(self._config, self._reporter, result.run_id)
        self._note_refusal()

    def _note_refusal(self) -> None:
        """Copy the gate's decision into the result, and add a refusal to the problems."""
        result, gate = self._result, self._gate
        result.decision, result.comparison = gate.decision, gate.comparison
        if gate.refusal:
            result.problems.append(gate.refusal)

    def _has_stale_rows(self) -> bool:
        """Whether there are rows of another annotator that can be made anew. Rows that cannot be,
        as they have no text, are added to the problems."""
        config, target = self._config, self._candidate.fingerprint
        if self._gate.refusal or not config.slice_rows or not set(self._counts) - {target}:
            return False
        selected = stale(self._store.load(), target, config.slice_rows)
        problem = (
            f"{selected.textless:,} rows of another annotator have no text; `pubmark annotate` "
            "makes them anew from their sources (slice_rows: 0 leaves them)"
        )
        if selected.textless and problem not in self._result.problems:
            self._result.problems.append(problem)
        return len(selected.pmids) > 0

    def _annotate(
        self, shards: list[Shard], baseline_files: int | None, interrupts: "Interrupts"
    ) -> None:
        """Take new files in: with the candidate or, if that is refused, with the table's own
        annotator. ``baseline_files``: they complete a baseline of so many files."""
        from engine.runs.annotate import annotate_shards
        from engine.runs.result import Run

        config, result = self._config, self._result
        annotator = self._candidate
        if self._gate.refusal:
            if self._current is None:
                result.problems.append(f"{len(shards)} files wait for a checkpoint")
                return
            try:
                moved_to = config.gate.old_checkpoint if config.gate else None
                annotator = restore_annotator(self._store, self._current, moved_to)
            except UsageError as e:
                result.problems.append(f"{len(shards)} files wait: {e}")
                return
        shared = {n: getattr(config, n) for n in AnnotateConfig.model_fields if hasattr(config, n)}
        options = AnnotateConfig.model_validate(
            shared
            | {
                "sources": [s.uri for s in shards[:3]],
                "checkpoint": annotator.checkpoint.ref,
                "baseline": baseline_files is not None,
                "baseline_files": baseline_files,
            }
        )
        run = Run(annotator, options, self._store, interrupts, self._reporter)
        try:
            annotate_shards(run, shards)
        except UsageError as e:
            result.problems.append(str(e))
        self._add(run.result)
        for name in ("annotated", "revised", "deleted"):
            setattr(result, name, getattr(result, name) + getattr(run.result, name))
        result.problems += run.result.problems

    def _reannotate(self, interrupts: "Interrupts") -> None:
        """Make a slice of the rows of other annotators anew with the candidate."""
        from engine.runs.reannotate import reannotate
        from engine.runs.result import Run

        target, count = self._candidate.fingerprint, self._config.slice_rows
        run: Run[WriteOptions] = Run(
            self._candidate, self._config, self._store, interrupts, self._reporter
        )
        reannotate("rollout", run, lambda newest: stale(newest, target, count))
        self._add(run.result)
        self._result.remade += run.result.annotated

    def _add(self, done: "RunResult") -> None:
        """Add the failures of a run to those of the turn; raise if the run was interrupted."""
        from engine.runs.result import too_many_failed

        result = self._result
        result.partial += done.partial
        result.failed += done.failed
        failed = done.partial + done.failed
        if too_many_failed(failed, done.annotated, self._config.max_failed):
            result.problems.append(
                f"run {done.run_id}: {failed:,} of {done.annotated:,} citations failed; `pubmark "
                "replay` tries them again"
            )
        if done.outcome == "interrupted":
            raise KeyboardInterrupt

    def _tidy(self, table: DeltaTable) -> bool:
        """If enough files are small or overlap: compact the table, then delete the files that left
        it so long ago that no reader can still be reading them. Gives whether that was done."""
        config, store, result = self._config, self._store, self._result
        if not self._is_loose(table):
            return False
        result.outcome = "done"
        result.compacted, _ = compact(store, result.run_id)
        result.vacuumed += sum(vacuum(store, config.retention_hours).values())
        return True

    def _is_loose(self, table: DeltaTable) -> bool:
        """Whether enough files are small or overlap."""
        return loose_files(table) >= self._config.compact_files
