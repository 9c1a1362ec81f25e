"""What an annotator finds in texts that are held in memory: for scoring and comparing, not storing.

Enters: gold texts, or citations. Leaves: the mentions of each. Left to others: what they are held
against.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from engine.runs import datasets, pipeline
from engine.runs.figures import Figures, Reporter
from engine.scoring.gold import GoldText, to_citations
from engine.scoring.scores import Tally
from engine.steps.annotator import Annotator
from schemas.configs.options import EngineOptions
from schemas.errors import JobError
from schemas.spans import TypedSpan
from schemas.task import Task

_CITATIONS, _SENTENCES = 16, 128
"""How many texts travel together: about as many prompts either way, so that sentences keep an
engine as busy as citations do."""


@dataclass(frozen=True, slots=True)
class Texts:
    """Citations (CITATION_SCHEMA), and what each is asked; ``pmid`` is unique over all that are
    asked together. ``one_sentence``: each is one sentence, which is not split further."""

    citations: pa.Table
    task: Task
    one_sentence: bool = False


@dataclass(slots=True)
class Predicted:
    """By ``pmid``: the mentions, and the error of those that failed or are partial."""

    mentions: dict[int, list[TypedSpan]] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    sentences: int = 0
    figures: Figures = field(default_factory=Figures)


def predict(
    texts: Sequence[Texts], annotator: Annotator, options: EngineOptions, reporter: Reporter
) -> Predicted:
    """Annotate all texts in one go, on the cluster that is connected.

    Raises:
        JobError: if a text did not come back.
        ray.exceptions.RayError: if the engines failed.
    """
    result = Predicted()
    texts = [t for t in texts if len(t.citations)]
    if not texts:
        return result
    batch_texts = _SENTENCES if all(t.one_sentence for t in texts) else _CITATIONS
    settings, pool = pipeline.plan_engines(options, batch_texts)
    first, *others = (
        datasets.prepared_texts(
            t.citations, annotator.checkpoint.ref, t.task, batch_texts, one_sentence=t.one_sentence
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


def asked_types(gold: Sequence[GoldText], task: Task) -> list[frozenset[str]]:
    """For each gold text, the types of the task that it is annotated with."""
    return [text.annotated_types & set(task.entity_types) for text in gold]


def gold_texts(
    gold: Sequence[GoldText], asked: Sequence[Collection[str]], task: Task
) -> list[Texts]:
    """The gold texts of which something is asked; in place of a PMID stands a text's number.

    A text is asked about the types that it is scored for, where each has a prompt of its own;
    where one prompt asks for all, it is the same as in ``annotate``.
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
    gold: Sequence[GoldText], asked: Sequence[Collection[str]], found: dict[int, list[TypedSpan]]
) -> Tally:
    """The counts of what was ``found`` in each gold text, by its number."""
    tally = Tally()
    for i, text in enumerate(gold):
        tally.add(text.corpus, text.document, text.mentions, found.get(i, []), asked[i])
    return tally
