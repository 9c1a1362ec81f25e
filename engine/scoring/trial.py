"""Two annotators run over the same texts, to see what the second would change.

Enters: gold texts, and citations, with or without the mentions that the table holds. Leaves: a
comparison. Left to others: counting differences (comparison.py), and deciding whether the second
annotator may take over (engine/refresh).

Mentions in the table are one run of the old annotator. Running it a second time shows by how much
two runs of it differ: batching changes a real engine's numbers a little.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.runs.figures import Reporter
from engine.scoring.comparison import Comparison, GoldScore, Mentions, Side, compare
from engine.scoring.gold import GoldText, with_names
from engine.scoring.predict import (
    Predicted,
    Texts,
    asked_types,
    gold_texts,
    predict,
    score_gold,
    spans,
)
from engine.sources.read import read_citations
from engine.sources.shards import find_shards
from engine.steps.annotator import Annotator
from schemas.citation import CITATION_SCHEMA
from schemas.configs.options import EngineOptions

_SAMPLED_FILES = 8
"""Citations are drawn from at most this many files, since each drawn file is read whole."""


def sample_sources(sources: Sequence[str], size: int, seed: int) -> pa.Table:
    """At most ``size`` citations that have a text, as CITATION_SCHEMA, in the order of the files.

    The same seed draws the same citations.

    Raises:
        UsageError: if a source is missing or cannot be read.
    """
    rng = np.random.default_rng(seed)
    shards = find_shards(sources)
    chosen = [shards[i] for i in rng.permutation(len(shards))[:_SAMPLED_FILES]]
    batches = [b for s in chosen for b in read_citations(s, batch_rows=1024)]
    rows = pa.Table.from_batches(batches, schema=CITATION_SCHEMA)
    rows = rows.filter(pc.not_equal(rows["text"], ""))
    return rows.take(np.sort(rng.permutation(len(rows))[:size]))


def measure(
    old: Annotator | None,
    new: Annotator,
    citations: pa.Table,
    gold: Sequence[GoldText],
    options: EngineOptions,
    reporter: Reporter,
) -> Comparison:
    """Score both on the gold texts, and compare their mentions of the citations (CITATION_SCHEMA).

    A column ``mentions``, if there is one, is the old annotator's first run: the old annotator then
    runs once more, otherwise twice. Without ``old``, the new annotator is compared with that column
    alone, and the noise is null.

    Raises:
        JobError: if a text did not come back.
        ray.exceptions.RayError: if the engines failed.
    """
    stored = "mentions" in citations.column_names
    pmids = citations["pmid"].to_pylist()
    after = _run(new, citations, gold, options, reporter)
    # A table written by older code may have types that the new annotator does not have.
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
    """Predictions by number: the gold texts from 0, then the citations, each in their order."""
    numbers = pa.array(np.arange(len(gold), len(gold) + len(citations)), pa.int64())
    numbered = citations.select(CITATION_SCHEMA.names).set_column(
        0, CITATION_SCHEMA.field("pmid"), numbers
    )
    gold = with_names(gold, annotator.task.entity_types)
    texts = gold_texts(gold, asked_types(gold, annotator.task), annotator.task)
    return predict([*texts, Texts(numbered, annotator.task)], annotator, options, reporter)


def _of(predicted: Predicted, gold: Sequence[GoldText], pmids: Sequence[int]) -> Mentions:
    return {pmid: predicted.mentions.get(i, []) for i, pmid in enumerate(pmids, len(gold))}


def _stored(citations: pa.Table) -> Mentions:
    rows = citations.select(["pmid", "mentions"]).to_pylist()
    return {row["pmid"]: spans(row["mentions"]) for row in rows}


def _side(annotator: Annotator, predicted: Predicted, gold: Sequence[GoldText]) -> Side:
    scores = []
    if gold:
        gold = with_names(gold, annotator.task.entity_types)
        asked = asked_types(gold, annotator.task)
        for row in score_gold(gold, asked, predicted.mentions).rows():
            if row.corpus is not None and len({t.corpus for t in gold}) > 1:
                continue
            exact = row.scores["exact"]
            counts, interval = exact.counts, exact.f1_interval
            scores.append(
                GoldScore(
                    row.entity_type,
                    counts.gold,
                    counts.precision,
                    counts.recall,
                    counts.f1,
                    (interval.low, interval.high) if interval else None,
                )
            )
        if scores and all(s.entity_type for s in scores):  # one type alone has no row of totals
            scores.insert(0, replace(scores[0], entity_type=None))
    return Side(
        annotator.checkpoint.manifest.name,
        annotator.fingerprint,
        predicted.figures.rows,
        len(predicted.errors),
        tuple(scores),
    )
