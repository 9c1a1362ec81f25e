"""``pubmark refresh``: one scheduled turn.

Lock, mirror, plan, gate, annotate and delete, make stale rows anew, compact, report. What starts an
engine is imported when there is something for it to do: mostly there is not.
"""

import logging
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from engine.backends import BACKENDS, backend_class
from engine.checkpoints.load import load_checkpoint
from engine.mirror.client import Client
from engine.mirror.copying import Mirror, Mirrored
from engine.mirror.target import Target
from engine.planning.settled import settled_pmids
from engine.refresh.gate import Limits, judge, question
from engine.refresh.lock import Held, turn
from engine.refresh.pending import md5_of, pending
from engine.refresh.turn import Progress, progress
from engine.runs.figures import Reporter
from engine.runs.result import new_run_id
from engine.scoring.comparison import Comparison, to_markdown
from engine.scoring.gold import read_gold
from engine.sources.nlm import nlm_number
from engine.sources.shards import Shard, find_shards
from engine.steps.annotator import Annotator, make_annotator
from engine.tables.annotators import current_annotator, refuse_other_task, restore_annotator
from engine.tables.committer import Committer
from engine.tables.decisions import Decision, decide, decided
from engine.tables.layout.compaction import loose_files
from engine.tables.ledger import Ledger
from engine.tables.rows import count_annotators, stale
from engine.tables.store import LATER_TABLES, TABLES, Store
from schemas.configs.annotate import AnnotateConfig
from schemas.configs.refresh import GatePart, RefreshConfig
from schemas.errors import JobError, UsageError

if TYPE_CHECKING:
    from engine.runs.interrupts import Interrupts
    from engine.runs.result import RunResult

logger = logging.getLogger(__name__)


@dataclass
class RefreshResult:
    """What one turn did. ``files`` were new; ``remade`` are rows of another annotator, made anew;
    other counts are those of ``annotate``. ``problems`` are lines for a person: with one, the exit
    code is 3."""

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
        """0, 3 or 130, as the command line promises. That another turn goes on is no fault: the
        next one comes in an hour."""
        if self.outcome == "interrupted":
            return 130
        return 3 if self.problems else 0


def run(
    config: RefreshConfig, reporter: Reporter | None = None, verbose: bool = False
) -> RefreshResult:
    """Do what has become due since the last turn.

    Raises:
        UsageError: before anything is started or written.
        JobError: if the engines or the table failed; what was committed before stays.
    """
    began = time.monotonic()
    result = RefreshResult(new_run_id())
    store, candidate = _check(config)
    try:
        with turn(config.to, result.run_id):
            _Turn(config, store, candidate, result, reporter or Reporter(), verbose).take()
    except Held as e:
        result.outcome, result.holder = "held", e.holder
    except KeyboardInterrupt:
        result.outcome = "interrupted"
    result.seconds = round(time.monotonic() - began, 2)
    for problem in result.problems:
        logger.warning("%s", problem)
    return result


def describe(result: RefreshResult, target: str) -> str:
    """What a turn did, for a person."""
    if result.outcome == "held":
        return f"{result.holder} is at it; nothing was done"
    counts = {
        "fetched": "files fetched", "files": "files new", "annotated": "citations annotated",
        "revised": "with new metadata", "deleted": "deleted", "partial": "in part",
        "failed": "failed", "remade": "made anew", "compacted": "files compacted",
        "vacuumed": "files deleted",
    }  # fmt: skip
    said = [f"{v:,} {what}" for name, what in counts.items() if (v := getattr(result, name))]
    lines = [", ".join(said)] if said else []
    if result.comparison:
        lines.append(to_markdown(result.comparison))
    if result.decision:
        lines.append(f"annotator {result.decision.annotator}: {result.decision.answer}")
    if result.progress and result.progress.done < result.progress.rows:
        done, rows = result.progress.done, result.progress.rows
        lines.append(
            f"{done:,} of {rows:,} rows ({done / rows:.1%}) are of annotator "
            f"{result.progress.annotator}"
        )
    lines += [f"problem: {p}" for p in result.problems]
    lines.append(f"{result.outcome}: run {result.run_id}, table {target}, {result.seconds:.1f} s")
    return "\n".join(lines)


def _check(config: RefreshConfig) -> tuple[Store, Annotator]:
    """Everything that can be known to be wrong before anything starts; all faults at once."""
    faults: list[str] = []
    store = Store(config.to)
    candidate: Annotator | None = None
    try:
        checkpoint = load_checkpoint(config.checkpoint)
        task = checkpoint.manifest.task
        types = config.entity_types
        candidate = make_annotator(checkpoint, task if types is None else task.only(types))
    except (UsageError, ValueError) as e:
        faults.append(str(e))
    try:
        store.check()
        if candidate and store.exists():
            refuse_other_task(store, candidate)
    except UsageError as e:
        faults.append(str(e))
    for uris in (
        config.sources if config.mirror is None else [],
        *([config.gate.corpora] if config.gate else []),
    ):
        try:
            find_shards(uris)
        except UsageError as e:
            faults.append(str(e))
    if config.backend not in BACKENDS:  # which need not be loaded to be known
        try:
            backend_class(config.backend)
        except UsageError as e:
            faults.append(str(e))
    if faults or candidate is None:
        raise UsageError("\n".join(faults))
    return store, candidate


class _Turn:
    """One turn: what it was given, and what it has found so far."""

    def __init__(
        self,
        config: RefreshConfig,
        store: Store,
        candidate: Annotator,
        result: RefreshResult,
        reporter: Reporter,
        verbose: bool,
    ):
        self._config, self._store, self._candidate = config, store, candidate
        self._result, self._reporter, self._verbose = result, reporter, verbose

    def take(self) -> None:
        """Do all of it."""
        config, store, result = self._config, self._store, self._result
        year = self._mirror()
        table = store.load() if store.exists() else None
        ledger = Ledger(store, table)
        shards = self._shards()
        new = pending(shards, ledger, config.mirror.to if config.mirror else None)
        result.files = len(new)
        is_baseline = (
            year is not None and year > (ledger.baseline or 0) and self._is_whole(shards, year)
        )
        if is_baseline:  # all of the year's: what they do not hold goes
            new = [s for s in shards if (n := nlm_number(s.name)) is None or n[0] == year]
        self._counts = count_annotators(table) if table else Counter()
        self._old = current_annotator(store, self._counts)
        self._question = self._asked()
        if self._question is not None:
            result.decision = decided(store, self._question)
        asking = self._question is not None and result.decision is None
        self._judged()
        if new or asking or self._is_stale():
            result.outcome = "done"
            # Only now: Ray takes seconds to load and to start.
            from engine.runs.cluster import connected
            from engine.runs.interrupts import Interrupts

            with connected(self._verbose), Interrupts() as interrupts:
                if asking:
                    self._ask()
                    self._judged()
                if new:
                    self._take_in(new, is_baseline, interrupts)
                if self._is_stale():
                    self._remake(interrupts)
        self._tidy()
        if store.exists():
            target = self._old if self._is_refused() else self._candidate.fingerprint
            if target is not None:
                result.progress = progress(store.load(), target)

    def _mirror(self) -> int | None:
        """Fetch what is new; gives the year of the baseline, if all of one was there."""
        part, result = self._config.mirror, self._result
        whole: int | None = None
        for kind in sorted(part.kinds) if part else ():  # the baseline comes first
            assert part is not None
            client = Client(
                connections=part.connections,
                retries=part.retries,
                backoff_seconds=part.backoff_seconds,
                timeout_seconds=part.timeout_seconds,
            )
            mirror = Mirror(
                kind, part.source, Target(part.to), client, connections=part.connections
            )
            try:
                done: Mirrored = mirror.run()
            except (UsageError, JobError) as e:
                result.problems.append(f"mirror {kind}: {e}")
                continue
            finally:
                result.fetched += len(mirror.result.fetched)
            if done.interrupted:
                raise KeyboardInterrupt
            result.problems += [f"mirror {n}: {cause}" for n, cause in done.failed.items()]
            if kind == "baseline" and done.last and not done.failed:
                number = nlm_number(done.last)
                whole = number and number[0]
        if result.fetched:
            result.outcome = "done"
        return whole

    def _shards(self) -> list[Shard]:
        """The files that there are now."""
        config = self._config
        sources = config.sources or ([config.mirror.to] if config.mirror else [])
        try:
            return find_shards(sources)
        except UsageError as e:  # where nothing was mirrored yet
            self._result.problems.append(str(e))
            return []

    def _is_whole(self, shards: list[Shard], year: int) -> bool:
        """Whether no file of a year is missing, up to its last."""
        numbers = {n[1] for s in shards if (n := nlm_number(s.name)) and n[0] == year}
        if not numbers or len(numbers) == max(numbers):
            return bool(numbers)
        missing = sorted(set(range(1, max(numbers))) - numbers)
        self._result.problems.append(
            f"the baseline of year {year} waits for {len(missing)} files, the first {missing[0]:04}"
        )
        return False

    def _asked(self) -> str | None:
        """The question for the gate; None if there is none."""
        gate = self._config.gate
        if gate is None or self._candidate.fingerprint == self._old:
            return None
        if self._old is None and not gate.corpora:
            return None  # nothing to hold it against
        asked = gate.model_dump(mode="json", exclude={"old_checkpoint"})
        asked["corpora"] = [md5_of(s) for s in find_shards(gate.corpora)]
        return question(self._candidate.fingerprint, self._old, asked)

    def _ask(self) -> None:
        """Try the candidate, and write down what is decided."""
        from ray.exceptions import RayError

        from engine.runs.cluster import describe_failure
        from engine.scoring.trial import measure
        from engine.tables.rows import no_citations, sample

        gate, result = self._config.gate, self._result
        assert gate is not None and self._question is not None
        gold = read_gold(gate.corpora, gate.split, gate.limit) if gate.corpora else []
        citations, old = no_citations(), None
        if self._old is not None:
            citations = sample(self._store.load(), self._old, gate.sample, gate.seed)
            try:
                old = restore_annotator(self._store, self._old, gate.old_checkpoint)
            except UsageError as e:
                result.problems.append(f"gate: without the old checkpoint no noise is known: {e}")
        logger.info(
            "trying %s on %d citations and %d gold texts",
            self._candidate.checkpoint.ref, len(citations), len(gold),
        )  # fmt: skip
        try:
            found = measure(old, self._candidate, citations, gold, self._config, self._reporter)
        except RayError as e:
            raise JobError(f"gate: {describe_failure(e)}") from e
        result.comparison = found
        result.decision = decide(
            self._store,
            self._candidate.fingerprint,
            self._old,
            self._question,
            judge(found, _limits(gate)),
            found.summary(),
            result.run_id,
        )

    def _judged(self) -> None:
        """Say it if the candidate is refused."""
        decision = self._result.decision
        if decision and decision.answer == "refused":
            self._result.problems.append(
                f"checkpoint {self._candidate.checkpoint.ref} is refused: "
                + "; ".join(decision.reasons)
            )

    def _is_refused(self) -> bool:
        decision = self._result.decision
        return decision is not None and decision.answer == "refused"

    def _is_stale(self) -> bool:
        """Whether there are rows to make anew; says it where that cannot be done."""
        config, target = self._config, self._candidate.fingerprint
        if self._is_refused() or not config.slice_rows or not set(self._counts) - {target}:
            return False
        found = stale(self._store.load(), target, config.slice_rows)
        problem = (
            f"{found.textless:,} rows of another annotator have no text; `pubmark annotate` makes "
            "them anew from their sources (slice_rows: 0 leaves them)"
        )
        if found.textless and problem not in self._result.problems:
            self._result.problems.append(problem)
        return len(found.pmids) > 0

    def _take_in(self, shards: list[Shard], is_baseline: bool, interrupts: "Interrupts") -> None:
        """New files: with the table's own annotator, where the candidate is refused."""
        from engine.runs.annotate import annotate_shards
        from engine.runs.result import RunResult

        config, result = self._config, self._result
        annotator = self._candidate
        if self._is_refused():
            if self._old is None:
                result.problems.append(f"{len(shards)} files wait for a checkpoint")
                return
            try:
                place = config.gate.old_checkpoint if config.gate else None
                annotator = restore_annotator(self._store, self._old, place)
            except UsageError as e:
                result.problems.append(f"{len(shards)} files wait: {e}")
                return
        options = {
            n: getattr(config, n) for n in AnnotateConfig.model_fields if hasattr(config, n)
        } | {
            "sources": [s.uri for s in shards[:3]],
            "checkpoint": annotator.checkpoint.ref,
            "baseline": is_baseline,
        }
        done = RunResult(new_run_id())
        try:
            annotate_shards(
                AnnotateConfig.model_validate(options),
                annotator,
                shards,
                self._store,
                done,
                interrupts,
                self._reporter,
            )
        except UsageError as e:
            result.problems.append(str(e))
        self._add(done)
        for name in ("annotated", "revised", "deleted"):
            setattr(result, name, getattr(result, name) + getattr(done, name))
        result.problems += done.problems

    def _remake(self, interrupts: "Interrupts") -> None:
        """A slice of the rows that are of another annotator."""
        from engine.runs.reannotate import reannotate
        from engine.runs.result import RunResult

        config, result = self._config, self._result
        done = RunResult(new_run_id())
        reannotate(
            "rollout",
            lambda newest: stale(newest, self._candidate.fingerprint, config.slice_rows),
            self._candidate,
            config,
            self._store,
            done,
            interrupts,
            self._reporter,
        )
        self._add(done)
        result.remade += done.annotated

    def _add(self, done: "RunResult") -> None:
        """Add what failed in a part of the turn."""
        config, result = self._config, self._result
        result.partial += done.partial
        result.failed += done.failed
        failed = done.partial + done.failed
        if failed > config.max_failed * max(1, done.annotated):
            result.problems.append(
                f"run {done.run_id}: {failed:,} of {done.annotated:,} citations failed; `pubmark "
                "replay` tries them again"
            )
        if done.outcome == "interrupted":
            raise KeyboardInterrupt

    def _tidy(self) -> None:
        """Compact the table, if it is due, and delete what no reader can be at any more."""
        config, store, result = self._config, self._store, self._result
        if not store.exists() or loose_files(store.load()) < config.compact_files:
            return
        result.outcome = "done"
        committer = Committer(store.load(), None, settled_pmids, store=store, run_id=result.run_id)
        result.compacted, _ = committer.compact()
        for name in (*TABLES, *LATER_TABLES):
            if store.has(name):
                result.vacuumed += store.vacuum(name, config.retention_hours, dry_run=False)


def _limits(gate: GatePart) -> Limits:
    return Limits(**gate.limits.model_dump())
