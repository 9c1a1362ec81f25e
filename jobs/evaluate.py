"""``pubmark evaluate``: gold text through the pipeline, or a file of predictions, to scores."""

import logging
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from ray.exceptions import RayError
from rich.table import Table

from engine.backends import backend_class
from engine.checkpoints.fetch import EMBEDDED
from engine.checkpoints.load import load_checkpoint
from engine.runs.cluster import connected, describe_failure
from engine.runs.figures import Reporter
from engine.runs.interrupts import Interrupts
from engine.runs.result import too_many_failed
from engine.scoring.few_shot import draw_all_shots, few_shot_checkpoint
from engine.scoring.gold import GoldText, read_gold, types_in_common, with_names
from engine.scoring.pairs import read_pairs, score_pairs, unmatched_types
from engine.scoring.predict import evaluate
from engine.scoring.report import COLUMNS, cells, jsonable
from engine.scoring.report import to_markdown as scores_to_markdown
from engine.scoring.scores import ScoreRow
from engine.steps.annotator import Annotator, annotator_of
from engine.steps.prepare import check_template
from engine.views.terminal import cell
from schemas.configs.evaluate import EvaluateConfig
from schemas.configs.load import load_config
from schemas.credentials import without_credentials
from schemas.errors import Faults, JobError
from schemas.task import Task

logger = logging.getLogger(__name__)


@dataclass
class EvaluateResult:
    """Scores, and what they were made from.

    ``of`` is the checkpoint's name or the file of predictions; ``annotator`` is null for a file.
    ``texts`` counts examples; ``failed`` those whose prompts all failed, ``partial`` those of which
    some did: the predictions that came are scored. For files, ``missing`` documents have no
    predictions and are scored as such; ``extra`` documents have no gold and are left out.
    ``unplaced`` counts, by reason, marks that could not be aligned with the text. Two counts by
    type are not part of the scores: ``unscored``, predicted mentions of types that their corpus
    does not annotate, and ``unmarked``, gold mentions of types that were not asked for. For files,
    ``unmatched`` says which types only one of the two has.
    """

    of: str
    annotator: str | None = None
    texts: int = 0
    sentences: int = 0
    prompts: int = 0
    failed: int = 0
    partial: int = 0
    missing: int = 0
    extra: int = 0
    unplaced: Counter[str] = field(default_factory=Counter)
    unscored: Counter[str] = field(default_factory=Counter)
    unmarked: Counter[str] = field(default_factory=Counter)
    unmatched: list[str] = field(default_factory=list)
    rows: list[ScoreRow] = field(default_factory=list)
    seconds: float = 0.0
    generating_seconds: float = 0.0

    @property
    def sentences_per_second(self) -> float | None:
        """Measured from the first prompt to the last completion; null where no model ran."""
        return self.sentences / self.generating_seconds if self.generating_seconds else None

    def summary(self) -> dict[str, Any]:
        """The object that ``--json`` prints; the first of ``scores`` is the headline."""
        names = ("of", "annotator", "texts", "sentences", "prompts", "failed", "partial", "missing",
                 "extra")  # fmt: skip
        speed = self.sentences_per_second
        return {n: getattr(self, n) for n in names} | {
            "unplaced": dict(self.unplaced),
            "unscored": dict(self.unscored),
            "unmarked": dict(self.unmarked),
            "seconds": self.seconds,
            "sentences_per_second": None if speed is None else round(speed, 2),
            "scores": [jsonable(row) for row in self.rows],
        }

    def exit_code(self, max_failed: float) -> int:
        """0, or 3 if more than a share ``max_failed`` of the texts failed, wholly or in part."""
        return 3 if too_many_failed(self.failed + self.partial, self.texts, max_failed) else 0


def run(
    config: EvaluateConfig, reporter: Reporter | None = None, verbose: bool = False
) -> EvaluateResult:
    """Score a checkpoint over gold text, or predictions against gold ones.

    Raises:
        UsageError: before anything is started.
        JobError: if the engines failed.
    """
    began = time.monotonic()
    if config.gold is not None and config.predictions is not None:
        result = _score_files(config, config.gold, config.predictions)
    else:
        result = _score_checkpoint(config, reporter or Reporter(), verbose)
    result.seconds = round(time.monotonic() - began, 2)
    return result


def _score_files(config: EvaluateConfig, gold: str, predictions: str) -> EvaluateResult:
    pairs = read_pairs(gold, predictions)
    for what, documents in (("predictions for", pairs.missing), ("gold mentions of", pairs.extra)):
        if documents:
            logger.warning("no %s %d documents, such as %s", what, len(documents), documents[0])
    tally = score_pairs(pairs, config.entity_types)
    return EvaluateResult(
        of=without_credentials(predictions),
        texts=len(pairs.pairs),
        missing=len(pairs.missing),
        extra=len(pairs.extra),
        unmatched=unmatched_types(pairs, config.entity_types),
        rows=tally.rows(config.replicates, config.seed),
    )


def _score_checkpoint(config: EvaluateConfig, reporter: Reporter, verbose: bool) -> EvaluateResult:
    with ExitStack() as stack:
        annotator, gold = _check(config, stack)
        types_in_common(gold, annotator.task)
        stack.enter_context(connected(verbose))
        stack.enter_context(Interrupts())
        try:
            done = evaluate(annotator, gold, config, reporter)
        except RayError as e:
            raise JobError(f"evaluate: {describe_failure(e)}") from e
    figures = done.predicted.figures
    return EvaluateResult(
        of=annotator.checkpoint.manifest.name,
        annotator=annotator.fingerprint,
        texts=len(gold),
        sentences=done.predicted.sentences,
        prompts=figures.prompts,
        failed=figures.statuses["failed"],
        partial=figures.statuses["partial"],
        unplaced=figures.unplaced,
        unscored=done.tally.unscored,
        unmarked=done.unmarked,
        rows=done.tally.rows(config.replicates, config.seed),
        generating_seconds=figures.generating_seconds(),
    )


def _check(config: EvaluateConfig, stack: ExitStack) -> tuple[Annotator, list[GoldText]]:
    """Everything that can be known to be wrong before anything starts; all faults at once."""
    faults = Faults()
    gold = faults.attempt(lambda: read_gold(config.corpora, config.split, config.limit))
    faults.attempt(lambda: backend_class(config.backend))
    annotator = None
    if config.few_shot is None:
        annotator = faults.attempt(lambda: _annotator(config, config.checkpoint))
    elif gold is not None:
        annotator = faults.attempt(lambda: _few_shot_annotator(config, gold, stack))
    if annotator is not None:
        faults.attempt(lambda: check_template(annotator))
    faults.raise_any()
    assert annotator and gold
    return annotator, gold


def _annotator(config: EvaluateConfig, checkpoint: str) -> Annotator:
    return annotator_of(checkpoint, config.entity_types, config.serving)


def _few_shot_annotator(
    config: EvaluateConfig, gold: list[GoldText], stack: ExitStack
) -> Annotator:
    """An untuned model, prompted with examples of the training split."""
    if config.task:
        task = load_config(Task, config.task, {})
    else:  # the embedded checkpoint has the paper's entity types
        task = load_checkpoint(EMBEDDED).manifest.task
    task = task.only(config.entity_types or types_in_common(gold, task))
    examples = read_gold(config.corpora, "train") if config.few_shot else []
    examples = with_names(examples, task.entity_types)
    shots = draw_all_shots(task, examples, gold, config.few_shot or 0, config.seed)
    checkpoint = few_shot_checkpoint(config.checkpoint, task, shots)
    return _annotator(config, stack.enter_context(checkpoint).ref)


def to_table(result: EvaluateResult) -> Table:
    """The scores for a terminal, in percent."""
    table = Table(*COLUMNS)
    for column in table.columns[2:]:
        column.justify = "right"
    for row in result.rows:
        table.add_row(*map(cell, cells(row)), style=None if row.entity_type else "bold")
    return table


def to_markdown(result: EvaluateResult) -> str:
    """The scores as a Markdown table, in percent."""
    return scores_to_markdown(result.rows)


def describe(result: EvaluateResult) -> str:
    """Notes for a person to read beside the scores."""
    lines = []
    if speed := result.sentences_per_second:
        lines.append(
            f"{result.of}: {result.texts:,} texts, {result.sentences:,} sentences, "
            f"{result.prompts:,} prompts; {speed:,.1f} sentences/s"
        )
    lines.append("P, R, F1 of exact span and type, micro-averaged; 95% by bootstrap over documents")
    if result.missing or result.extra:
        lines.append(
            f"{result.missing:,} documents have no predictions, which counts as none; "
            f"{result.extra:,} have no gold mentions and are left out"
        )
    if result.failed or result.partial:
        lines.append(f"{result.failed:,} texts failed, {result.partial:,} in part")
    notes = {
        "marks of the model without a place": result.unplaced,
        "predicted mentions not scored, of types that their corpus does not annotate":
            result.unscored,
        "gold mentions not scored, of types that were not asked for": result.unmarked,
    }  # fmt: skip
    lines += [f"{what}: {_listed(counts)}" for what, counts in notes.items() if counts]
    lines += result.unmatched
    return "\n".join(lines)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{n:,} {what}" for what, n in counts.most_common())
