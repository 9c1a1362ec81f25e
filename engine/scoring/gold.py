"""Examples with gold mentions: read from Parquet, and turned into citations for the pipeline.

Enters: files of EXAMPLES_SCHEMA. Leaves: the examples of one split, checked, and citations of their
texts. Left to others: annotating them, and scoring.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.scoring.types import speller
from engine.sources.shards import Shard, find_shards, open_shard
from schemas.citation import Citation, citations_to_batch
from schemas.errors import UsageError
from schemas.examples import EXAMPLES_SCHEMA, QUARANTINE
from schemas.spans import TypedSpan
from schemas.task import Task


@dataclass(frozen=True, slots=True)
class GoldText:
    """One example: a text, its gold mentions, and the types that it is annotated with."""

    corpus: str
    document: str
    text: str
    title_length: int
    is_sentence: bool
    mentions: list[TypedSpan]
    annotated_types: frozenset[str]


def find_examples(sources: Sequence[str]) -> list[Shard]:
    """The Parquet files that ``sources`` name. What an import has quarantined beside them is passed
    over.

    Raises:
        UsageError: if a source is missing, or names a file of another kind.
    """
    shards = [s for s in find_shards(sources) if not s.name.endswith(QUARANTINE)]
    others = [s.shown for s in shards if s.format != "parquet"] or ([] if shards else sources)
    if others:
        raise UsageError(f"{', '.join(others)}: expected Parquet, as `pubmark corpus import` makes")
    return shards


def read_gold(sources: Sequence[str], split: str, limit: int | None = None) -> list[GoldText]:
    """The examples of a split, in the order of the files; at most ``limit`` of each corpus.

    Raises:
        UsageError: if a source is missing or is not Parquet of examples, if a mention's text is not
            the text at its span, or if no example is of the split (the message names the splits
            that the sources have).
    """
    shards = find_examples(sources)
    counts: dict[str, int] = {}
    texts: list[GoldText] = []
    splits: set[str] = set()
    for shard in shards:
        try:
            with open_shard(shard) as stream:
                table = pq.read_table(stream)
        except (pa.ArrowException, OSError) as e:
            raise UsageError(f"{shard.uri}: cannot be read as Parquet: {e}") from e
        if missing := [n for n in EXAMPLES_SCHEMA.names if n not in table.column_names]:
            raise UsageError(f"{shard.uri}: no column {', '.join(missing)}; expected examples")
        splits.update(pc.unique(table["split"]).to_pylist())
        chosen = table.filter(pc.equal(table["split"], split))
        for row in _rows(chosen.select(EXAMPLES_SCHEMA.names)):
            corpus = row["corpus"]
            if limit is None or counts.get(corpus, 0) < limit:
                counts[corpus] = counts.get(corpus, 0) + 1
                texts.append(_gold_text(row, shard.uri))
    if not texts:
        known = ", ".join(sorted(splits)) or "none at all"
        raise UsageError(f"{', '.join(sources)}: no example of split {split}; found {known}")
    return texts


def with_names(texts: Iterable[GoldText], names: Iterable[str]) -> list[GoldText]:
    """The texts, with the types that differ from one of ``names`` in case only by that name."""
    named = speller(names)
    return [
        replace(
            text,
            mentions=[m._replace(entity_type=named(m.entity_type)) for m in text.mentions],
            annotated_types=frozenset(map(named, text.annotated_types)),
        )
        for text in texts
    ]


def types_in_common(texts: Sequence[GoldText], task: Task) -> list[str]:
    """The entity types of a task, in its order, that at least one text is annotated with.

    Raises:
        UsageError: if there is none.
    """
    annotated = set[str]().union(*(t.annotated_types for t in texts))
    marked = {name.casefold() for name in annotated}
    if common := [name for name in task.entity_types if name.casefold() in marked]:
        return common
    raise UsageError(
        f"gold has {', '.join(sorted(annotated))}, the task asks for "
        f"{', '.join(task.entity_types)}: no entity type in common"
    )


def to_citations(texts: Sequence[tuple[int, GoldText]]) -> pa.Table:
    """Rows of CITATION_SCHEMA; the number given with a text stands in place of its PMID.

    A PMID would not identify a text: some corpora have none, others have one twice.
    """
    citations = [Citation(number, t.text, t.title_length) for number, t in texts]
    return pa.Table.from_batches([citations_to_batch(citations, "gold")])


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=1024):
        yield from batch.to_pylist()


def _gold_text(row: dict[str, Any], uri: str) -> GoldText:
    text = row["text"]
    mentions = []
    for m in row["mentions"]:
        start, end = m["start"], m["end"]
        if not 0 <= start < end <= len(text) or text[start:end] != m["text"]:
            raise UsageError(
                f"{uri}, corpus {row['corpus']}, document {row['document']}, part {row['part']}: "
                f"at [{start}, {end}) stands {text[start:end]!r}, expected {m['text']!r}"
            )
        mentions.append(TypedSpan(start, end, m["entity_type"]))
    title_length = row["title_length"]
    return GoldText(
        corpus=row["corpus"],
        document=row["document"],
        text=text,
        title_length=len(text) if title_length is None else title_length,
        is_sentence=row["unit"] == "sentence",
        mentions=mentions,
        annotated_types=frozenset(row["annotated_types"]),
    )
