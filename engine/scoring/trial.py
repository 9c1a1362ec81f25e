"""Two annotators run over the same texts, to see what the second would change.

Enters: gold texts, and citations, with or without the mentions that the table holds. Leaves: a
comparison. Left to others: whether it may be rolled out (comparison.py), and that (rollout.py).

Stored mentions are one run of the old annotator. So running it once more says how much two runs of
it differ: batching changes a real engine's numbers a little.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from engine.runs.figures import Reporter
from engine.scoring.comparison import Comparison, GoldScore, Mentions, Side, compare
from engine.scoring.gold import GoldText
from engine.scoring.predict import (
    Predicted,
    Texts,
    asked_types,
    gold_texts,
    predict,
    score_gold,
    spans,
)
from engine.steps.annotator import Annotator
from schemas.citation import CITATION_SCHEMA
from schemas.configs.options import EngineOptions


def measure(
    old: Annotator | None,
    new: Annotator,
    citations: pa.Table,
    gold: Sequence[GoldText],
    options: EngineOptions,
    reporter: Reporter,
) -> Comparison:
    """Score both on the gold texts, and compare what they mark in the citations (CITATION_SCHEMA).

    If there is a column ``mentions``, it is the old annotator's first run: it then runs once, else
    twice. Without ``old``, nothing is compared but that column, and no noise is known.

    Raises:
        JobError: if a text did not come back.
        ray.exceptions.RayError: if the engines failed.
    """
    stored = "mentions" in citations.column_names
    pmids = citations["pmid"].to_pylist()
    after = _run(new, citations, gold, options, reporter)
    # A table of older code may be of types that the new annotator does not have.
    kinds = [t for t in new.task.entity_types if old is None or t in old.task.entity_types]
    if old is None:
        before = _stored(citations) if stored else None
        changes = compare(before, _of(after, gold, pmids), None, kinds) if before else []
        return Comparison(None, _side(new, after, gold), len(citations), tuple(changes))
    again = _run(old, citations, gold, options, reporter)
    before = (
        _stored(citations)
        if stored
        else _of(_run(old, citations, (), options, reporter), (), pmids)
    )
    changes = (
        compare(before, _of(after, gold, pmids), _of(again, gold, pmids), kinds) if before else []
    )
    return Comparison(
        _side(old, again, gold), _side(new, after, gold), len(citations), tuple(changes)
    )


def _run(
    annotator: Annotator,
    citations: pa.Table,
    gold: Sequence[GoldText],
    options: EngineOptions,
    reporter: Reporter,
) -> Predicted:
    """Gold texts are numbered from 0, and the citations, by their place, from there on."""
    numbers = pa.array(np.arange(len(gold), len(gold) + len(citations)), pa.int64())
    numbered = citations.select(CITATION_SCHEMA.names).set_column(
        0, CITATION_SCHEMA.field("pmid"), numbers
    )
    texts = gold_texts(gold, asked_types(gold, annotator.task), annotator.task)
    return predict([*texts, Texts(numbered, annotator.task)], annotator, options, reporter)


def _of(found: Predicted, gold: Sequence[GoldText], pmids: Sequence[int]) -> Mentions:
    return {pmid: found.mentions.get(i, []) for i, pmid in enumerate(pmids, len(gold))}


def _stored(citations: pa.Table) -> Mentions:
    rows = citations.select(["pmid", "mentions"]).to_pylist()
    return {row["pmid"]: spans(row["mentions"]) for row in rows}


def _side(annotator: Annotator, found: Predicted, gold: Sequence[GoldText]) -> Side:
    scores = []
    if gold:
        asked = asked_types(gold, annotator.task)
        for row in score_gold(gold, asked, found.mentions).rows():
            if row.corpus is not None and len({t.corpus for t in gold}) > 1:
                continue
            exact = row.scores["exact"]
            counts, bounds = exact.counts, exact.f1_interval
            scores.append(
                GoldScore(
                    row.entity_type,
                    counts.gold,
                    counts.precision,
                    counts.recall,
                    counts.f1,
                    (bounds.low, bounds.high) if bounds else None,
                )
            )
        if scores and all(s.entity_type for s in scores):  # of one type no total is made
            scores.insert(0, replace(scores[0], entity_type=None))
    return Side(
        annotator.checkpoint.manifest.name,
        annotator.fingerprint,
        found.figures.rows,
        len(found.errors),
        tuple(scores),
    )
