"""``pubmark evaluate``: gold text through the pipeline, or a file of predictions, to scores."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, TypeVar

from ray.exceptions import RayError
from rich.table import Table

from engine.backends import backend_class
from engine.checkpoints.fetch import EMBEDDED
from engine.checkpoints.load import Checkpoint, load_checkpoint
from engine.runs.cluster import connected, describe_failure
from engine.runs.figures import Reporter
from engine.runs.interrupts import Interrupts
from engine.scoring.few_shot import draw_shots, few_shot_checkpoint, sentences
from engine.scoring.gold import GoldText, read_gold
from engine.scoring.pairs import read_pairs
from engine.scoring.predict import asked_types, gold_texts, predict, score_gold
from engine.scoring.report import COLUMNS, cells, jsonable
from engine.scoring.scores import ScoreRow, Tally
from engine.steps.annotator import Annotator, make_annotator
from engine.steps.prepare import load_prompter
from schemas.configs.evaluate import EvaluateConfig
from schemas.configs.load import load_config
from schemas.errors import JobError, UsageError
from schemas.spans import TypedSpan
from schemas.task import Task

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass
class EvaluateResult:
    """Scores, and what they were made from.

    ``texts`` counts examples; ``failed`` and ``partial`` those of which all prompts or some gave
    nothing: what did come is scored. ``missing`` documents have no predictions in the file scored,
    which counts as none; ``extra`` ones no gold mentions, and are left out. ``unplaced`` counts
    marks without a place, by reason. Not in the scores are ``unscored``, predicted mentions of
    types that their corpus does not annotate, and ``unmarked``, gold mentions of types that were
    not asked for; both by type.
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
    rows: list[ScoreRow] = field(default_factory=list)
    seconds: float = 0.0
    generating_seconds: float = 0.0

    @property
    def sentences_per_second(self) -> float | None:
        """From the first prompt to the last completion; null where no model ran."""
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
        """0, or 3 where more texts failed than may."""
        return 3 if self.failed + self.partial > max_failed * max(1, self.texts) else 0


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
        result = _compare(config, config.gold, config.predictions)
    else:
        result = _evaluate(config, reporter or Reporter(), verbose)
    result.seconds = round(time.monotonic() - began, 2)
    return result


def _compare(config: EvaluateConfig, gold: str, predictions: str) -> EvaluateResult:
    """A file of predictions against one of gold mentions.

    What types a bare file annotates nobody says, so every type of either counts, as in conlleval.
    """
    found = read_pairs(gold, predictions)
    for what, documents in (("predictions for", found.missing), ("gold mentions of", found.extra)):
        if documents:
            logger.warning("no %s %d documents, such as %s", what, len(documents), documents[0])
    texts = found.pairs
    types = {m.entity_type for pair in texts for m in (*pair.gold, *pair.predicted)}
    if config.entity_types is not None:
        if unknown := [t for t in config.entity_types if t not in types]:
            raise UsageError(
                f"unknown entity type {', '.join(unknown)}; {gold} and {predictions} have "
                f"{', '.join(sorted(types)) or 'none'}"
            )
        types &= set(config.entity_types)
    tally = Tally()
    for pair in texts:
        tally.add(PurePath(gold).name, pair.document, pair.gold, pair.predicted, types)
    return EvaluateResult(
        of=predictions,
        texts=len(texts),
        missing=len(found.missing),
        extra=len(found.extra),
        rows=tally.rows(config.replicates, config.seed),
    )


def _evaluate(config: EvaluateConfig, reporter: Reporter, verbose: bool) -> EvaluateResult:
    with ExitStack() as stack:
        annotator, gold = _check(config, stack)
        asked = asked_types(gold, annotator.task)
        if not any(asked):
            raise _nothing_in_common(gold, annotator.task)
        result = EvaluateResult(
            of=annotator.checkpoint.manifest.name, annotator=annotator.fingerprint, texts=len(gold)
        )
        stack.enter_context(connected(verbose))
        stack.enter_context(Interrupts())
        try:
            predicted = _annotate(config, annotator, gold, asked, result, reporter)
        except RayError as e:
            raise JobError(f"evaluate: {describe_failure(e)}") from e
    tally = score_gold(gold, asked, predicted)
    for text, types in zip(gold, asked, strict=True):
        result.unmarked.update(m.entity_type for m in text.mentions if m.entity_type not in types)
    result.unscored = tally.unscored
    result.rows = tally.rows(config.replicates, config.seed)
    return result


def _check(config: EvaluateConfig, stack: ExitStack) -> tuple[Annotator, list[GoldText]]:
    """Everything that can be known to be wrong before anything starts; all faults at once."""
    faults: list[str] = []

    def attempt(step: Callable[[], T]) -> T | None:
        try:
            return step()
        except (UsageError, ValueError) as e:
            faults.append(str(e))
            return None

    gold = attempt(lambda: read_gold(config.corpora, config.split, config.limit))
    attempt(lambda: backend_class(config.backend))
    annotator = None
    if config.few_shot is None:
        annotator = attempt(lambda: _annotator(load_checkpoint(config.checkpoint), config))
    elif gold is not None:
        annotator = attempt(lambda: _few_shot_annotator(config, gold, stack))
    if faults or gold is None or annotator is None:
        raise UsageError("\n".join(faults))
    return annotator, gold


def _annotator(checkpoint: Checkpoint, config: EvaluateConfig) -> Annotator:
    task = checkpoint.manifest.task
    if config.entity_types is not None:
        task = task.only(config.entity_types)
    load_prompter(checkpoint.ref, task.model_dump_json())
    return make_annotator(checkpoint, task)


def _few_shot_annotator(
    config: EvaluateConfig, gold: list[GoldText], stack: ExitStack
) -> Annotator:
    """An untuned model, prompted with examples of the training split."""
    count = config.few_shot or 0
    # The embedded checkpoint's entity types are those of the paper.
    task = (
        load_config(Task, config.task, {})
        if config.task
        else load_checkpoint(EMBEDDED).manifest.task
    )
    wanted = config.entity_types or [
        name for name in task.entity_types if any(name in t.annotated_types for t in gold)
    ]
    if not wanted:
        raise _nothing_in_common(gold, task)
    task = task.only(wanted)
    examples = read_gold(config.corpora, "train") if count else []
    held_out = {t.text[s.start : s.end] for t in gold for s in sentences(t)}
    shots = {
        name: draw_shots(examples, name, count, config.seed, held_out) for name in task.entity_types
    }
    made = few_shot_checkpoint(config.checkpoint, task, shots)
    return _annotator(stack.enter_context(made), config)


def _nothing_in_common(gold: list[GoldText], task: Task) -> UsageError:
    found = ", ".join(sorted(set().union(*(t.annotated_types for t in gold))))
    asked = ", ".join(task.entity_types)
    return UsageError(f"gold has {found}, the task asks for {asked}: no entity type in common")


def _annotate(
    config: EvaluateConfig,
    annotator: Annotator,
    gold: list[GoldText],
    asked: list[frozenset[str]],
    result: EvaluateResult,
    reporter: Reporter,
) -> dict[int, list[TypedSpan]]:
    """What the pipeline finds in each gold text, by its number."""
    found = predict(gold_texts(gold, asked, annotator.task), annotator, config, reporter)
    for i, error in found.errors.items():
        logger.warning("%s, document %s: %s", gold[i].corpus, gold[i].document, error)
    figures = found.figures
    result.sentences = found.sentences
    result.prompts = figures.prompts
    result.failed, result.partial = figures.statuses["failed"], figures.statuses["partial"]
    result.unplaced = figures.unplaced
    result.generating_seconds = figures.generating_seconds()
    return found.mentions


def to_table(result: EvaluateResult) -> Table:
    """The scores for a terminal, in percent."""
    table = Table(*COLUMNS)
    for column in table.columns[2:]:
        column.justify = "right"
    for row in result.rows:
        table.add_row(*cells(row), style=None if row.entity_type else "bold")
    return table


def to_markdown(result: EvaluateResult) -> str:
    """The scores as a Markdown table, in percent."""
    lines = [COLUMNS, ["---"] * 2 + ["---:"] * (len(COLUMNS) - 2)]
    lines += [cells(row) for row in result.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def describe(result: EvaluateResult) -> str:
    """What stands beside the scores, for a person."""
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
    return "\n".join(lines)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{n:,} {what}" for what, n in counts.most_common())
