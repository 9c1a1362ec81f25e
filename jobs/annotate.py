"""``pubmark annotate``: citations in, rows of the annotations table out."""

from collections.abc import Callable
from typing import TypeVar

from engine.backends import backend_class
from engine.checkpoints.load import Checkpoint, load_checkpoint
from engine.planning.baseline import baseline_year
from engine.runs.annotate import STATES, annotate_shards
from engine.runs.cluster import connected
from engine.runs.figures import Reporter
from engine.runs.interrupts import Interrupts
from engine.runs.result import RunResult, new_run_id
from engine.sources.shards import Shard, find_shards
from engine.steps.annotator import Annotator, make_annotator
from engine.steps.prepare import load_prompter
from engine.tables.annotators import refuse_other_task
from engine.tables.store import Store
from schemas.configs.annotate import AnnotateConfig
from schemas.errors import UsageError
from schemas.task import Task

T = TypeVar("T")


def run(
    config: AnnotateConfig, reporter: Reporter | None = None, verbose: bool = False
) -> RunResult:
    """Annotate all citations of the sources that are not settled.

    Raises:
        UsageError: before anything is started or written.
        JobError: if the run failed; what was committed before stays.
    """
    result = RunResult(run_id=new_run_id())
    annotator, shards, store = _check(config)
    with connected(verbose), Interrupts() as interrupts:
        annotate_shards(
            config, annotator, shards, store, result, interrupts, reporter or Reporter()
        )
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
            + ", ".join(count(result.dry_run[s], STATES[s]) for s in STATES)
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
        attempt(lambda: baseline_year(shards))
    if faults or checkpoint is None or task is None or shards is None:
        raise UsageError("\n".join(faults))
    annotator = make_annotator(checkpoint, task)
    if store.exists() and not config.force:
        refuse_other_task(store, annotator)
    return annotator, shards, store


def _chosen_task(checkpoint: Checkpoint, entity_types: list[str] | None) -> Task:
    task = checkpoint.manifest.task
    return task if entity_types is None else task.only(entity_types)


__all__ = ["RunResult", "describe", "run"]
