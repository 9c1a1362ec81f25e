"""What an annotator predicts for texts held in memory, and how that counts against gold.

Enters: gold texts, or citations. Leaves: the predicted mentions of each text and, for gold texts,
the counts. Nothing is stored. Left to others: reading gold (gold.py), and comparing two annotators
(trial.py).
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from engine.runs import datasets, pipeline
from engine.runs.figures import Figures, Reporter
from engine.scoring.gold import GoldText, to_citations, with_names
from engine.scoring.scores import Tally
from engine.steps.annotator import Annotator
from schemas.configs.options import EngineOptions
from schemas.errors import JobError
from schemas.spans import TypedSpan
from schemas.task import Task

logger = logging.getLogger(__name__)

_CITATIONS, _SENTENCES = 16, 128
"""Texts of one batch: citations, or single sentences. Both give about as many prompts, so that
sentences keep an engine as busy as citations do."""


@dataclass(frozen=True, slots=True)
class Texts:
    """Citations (CITATION_SCHEMA), and the task that each is prompted with.

    ``pmid`` is unique over all texts that are annotated in one call. ``one_sentence``: each text is
    one sentence, which is not split further.
    """

    citations: pa.Table
    task: Task
    one_sentence: bool = False


@dataclass(slots=True)
class Predicted:
    """By ``pmid``: the mentions of each text, and the error of each that failed or is partial."""

    mentions: dict[int, list[TypedSpan]] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    sentences: int = 0
    figures: Figures = field(default_factory=Figures)


def predict(
    texts: Sequence[Texts], annotator: Annotator, options: EngineOptions, reporter: Reporter
) -> Predicted:
    """Annotate all texts in one pass, on the cluster that is connected.

    Raises:
        JobError: if a text did not come back.
        ray.exceptions.RayError: if the engines failed.
    """
    result = Predicted()
    texts = [t for t in texts if len(t.citations)]
    if not texts:
        return result
    batch_texts = _SENTENCES if all(t.one_sentence for t in texts) else _CITATIONS
    settings, pool = pipeline.plan_engines(options, annotator, batch_texts)
    first, *others = (
        datasets.prepared_texts(
            t.citations, annotator, t.task, batch_texts, one_sentence=t.one_sentence
        )
        for t in texts
    )
    planned = sum(len(t.citations) for t in texts)
    reporter.planned(planned)
    for batch in pipeline.annotate(
        first.union(*others) if others else first,
        annotator,
        options.backend,
        settings,
        pool,
        run_id="",
        store_text=False,
    ):
        result.figures.add(batch)
        for row in batch.select(["pmid", "mentions", "sentences", "error"]).to_pylist():
            result.mentions[row["pmid"]] = spans(row["mentions"])
            result.sentences += len(row["sentences"])
            if row["error"]:
                result.errors[row["pmid"]] = row["error"]
        reporter.progressed(result.figures)
    if not result.figures.rows == len(result.mentions) == planned:
        raise JobError(f"{planned} texts were planned, {result.figures.rows} came back")
    return result


def spans(mentions: Iterable[dict[str, object]] | None) -> list[TypedSpan]:
    """Stored mentions as spans."""
    return [
        TypedSpan(int(str(m["start"])), int(str(m["end"])), str(m["entity_type"]))
        for m in mentions or ()
    ]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An annotator's predictions for gold texts, by the text's index, and their counts.

    ``unmarked`` counts by type the gold mentions that are not scored, as the annotator was not
    asked for their type.
    """

    predicted: Predicted
    tally: Tally
    unmarked: Counter[str]


def evaluate(
    annotator: Annotator, gold: Sequence[GoldText], options: EngineOptions, reporter: Reporter
) -> Evaluation:
    """Annotate gold texts and count the predictions; each text that fails is logged.

    Types that differ in case only are the same: the annotator's names count.

    Raises:
        JobError: if a text did not come back.
        ray.exceptions.RayError: if the engines failed.
    """
    gold = with_names(gold, annotator.task.entity_types)
    asked = asked_types(gold, annotator.task)
    predicted = predict(gold_texts(gold, asked, annotator.task), annotator, options, reporter)
    for i, error in predicted.errors.items():
        logger.warning("%s, document %s: %s", gold[i].corpus, gold[i].document, error)
    unmarked = Counter(
        m.entity_type
        for text, types in zip(gold, asked, strict=True)
        for m in text.mentions
        if m.entity_type not in types
    )
    return Evaluation(predicted, score_gold(gold, asked, predicted.mentions), unmarked)


def asked_types(gold: Sequence[GoldText], task: Task) -> list[frozenset[str]]:
    """For each gold text, the types of the task that it is annotated with."""
    return [text.annotated_types & set(task.entity_types) for text in gold]


def gold_texts(
    gold: Sequence[GoldText], asked: Sequence[Collection[str]], task: Task
) -> list[Texts]:
    """The gold texts that have a type to ask for; a text's index stands in place of its PMID.

    Where each type has a prompt of its own, a text is prompted only for the types it is scored for.
    Where one prompt asks for all types, it asks for all, as in ``annotate``.
    """
    groups: dict[tuple[bool, frozenset[str]], list[tuple[int, GoldText]]] = defaultdict(list)
    for i, text in enumerate(gold):
        if asked[i]:
            types = frozenset(asked[i] if task.ask == "each" else task.entity_types)
            groups[text.is_sentence, types].append((i, text))
    return [
        Texts(to_citations(texts), task.only(sorted(types)), sentence)
        for (sentence, types), texts in groups.items()
    ]


def score_gold(
    gold: Sequence[GoldText],
    asked: Sequence[Collection[str]],
    predicted: dict[int, list[TypedSpan]],
) -> Tally:
    """The counts over all gold texts; ``predicted`` holds their mentions by the text's index."""
    tally = Tally()
    for i, text in enumerate(gold):
        tally.add(text.corpus, text.document, text.mentions, predicted.get(i, []), asked[i])
    return tally
