"""``pubmark annotate``: citations in, rows of the annotations table out.

What is here: the checks before anything starts, and the result in words. The work itself is
engine/runs/annotate.py.
"""

from engine.backends import backend_class
from engine.mirror.published import baseline_files
from engine.planning.baseline import baseline_year, check_complete, numbers_of
from engine.runs.annotate import STATES, annotate_shards
from engine.runs.cluster import connected
from engine.runs.figures import Reporter
from engine.runs.interrupts import Interrupts
from engine.runs.result import Run, RunResult
from engine.sources.nlm import nlm_number
from engine.sources.shards import Shard, find_shards
from engine.steps.annotator import Annotator, annotator_of
from engine.steps.prepare import check_template
from engine.tables.annotators import refuse_other_task
from engine.tables.ledger import Ledger
from engine.tables.store import Store
from schemas.configs.annotate import AnnotateConfig
from schemas.errors import Faults


def run(
    config: AnnotateConfig, reporter: Reporter | None = None, verbose: bool = False
) -> RunResult:
    """Annotate all citations of the sources that are not settled.

    Raises:
        UsageError: if the config, a source, the checkpoint or the target is wrong; nothing was
            written.
        JobError: if the run failed; what was committed before stays.
    """
    annotator, config, shards, store = _check(config)
    with connected(verbose), Interrupts() as interrupts:
        run = Run(annotator, config, store, interrupts, reporter or Reporter())
        annotate_shards(run, shards)
    return run.result


def describe(result: RunResult, target: str) -> str:
    """The result of a run, in lines for a person; ``target`` is the root of its tables."""
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
    if counts := [f"{v:,} {what}" for n, what in troubles.items() if (v := getattr(result, n))]:
        lines.append("of note: " + ", ".join(counts))
    lines.append(f"{result.outcome}: run {result.run_id}, table {target}")
    return "\n".join(lines)


def _check(config: AnnotateConfig) -> tuple[Annotator, AnnotateConfig, list[Shard], Store]:
    """Check the config, sources, checkpoint and target before anything starts; the config given
    back says how many files a baseline has.

    Raises:
        UsageError: with all faults at once.
    """
    faults = Faults()
    if config.baseline_files is not None and not config.baseline:
        faults.add("--baseline-files without --baseline says nothing; expected both or neither")
    if config.force and config.limit is not None:
        faults.add("--force with --limit would leave two tasks in one table; expected one of them")
    store = Store(config.to)
    faults.attempt(store.check)
    shards = faults.attempt(lambda: find_shards(config.sources))
    faults.attempt(lambda: backend_class(config.backend))
    annotator = faults.attempt(
        lambda: annotator_of(config.checkpoint, config.entity_types, config.serving)
    )
    if annotator:
        faults.attempt(lambda: check_template(annotator))
    faults.raise_any()
    assert annotator and shards
    if store.exists() and not config.force:
        refuse_other_task(store, annotator)
    if config.baseline:
        config = _check_baseline(config, shards, store)
    return annotator, config, shards, store


def _check_baseline(config: AnnotateConfig, shards: list[Shard], store: Store) -> AnnotateConfig:
    """Make sure, before they are read, that no file is missing of the baseline; gives the config
    with the number of its files, if that is known.

    Raises:
        UsageError: if one is missing, or none is NLM's.
    """
    year = baseline_year(shards)
    if config.baseline_files is None:
        folders = {s.uri.rpartition("/")[0] for s in shards if nlm_number(s.name)}
        known = baseline_files(folders, year)
        config = config.model_copy(update={"baseline_files": known})
    taken_in = Ledger(store, store.load()).numbers(year) if store.exists() else set()
    check_complete(numbers_of(shards, year) | taken_in, year, config.baseline_files)
    return config


__all__ = ["RunResult", "describe", "run"]
