"""Prepared rows to a stream of token sequences, encoded anew in every epoch.

Enters: a folder of Parquet (material.py). Leaves: sequences without end, the same on every worker
and in every run. Left to others: what one sequence is made of (sequences.py, variation.py), and
batches (batches.py).
"""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import count
from pathlib import Path
from random import Random
from typing import Protocol

import pyarrow as pa
import pyarrow.dataset as ds

from engine.checkpoints.tokenizer import load_tokenizer
from engine.scoring.types import speller
from engine.training.data.sequences import ExampleEncoder, TextEncoder, TokenSequence, stable_seed
from engine.training.data.variation import Lexicon, cut_words, replace_names, set_apart
from schemas.configs.finetune import TuningStage
from schemas.spans import TypedSpan
from schemas.task import Task

SEQUENCE_SCHEMA = pa.schema([("ids", pa.list_(pa.int32())), ("weights", pa.list_(pa.float32()))])


_ENCODE_ROWS = 512
"""Rows that are encoded in one call."""


class Encode(Protocol):
    """A function of rows and the epoch's number (from 0) that gives a table of SEQUENCE_SCHEMA."""

    def __call__(self, rows: pa.Table, epoch: int) -> pa.Table:
        """The sequences of some rows in one epoch; the same wherever they are made."""
        ...


@dataclass(frozen=True, slots=True)
class EncodeExamples:
    """An :data:`Encode` of rows of EXAMPLES_SCHEMA that can be sent to workers.

    How often an epoch holds an example, how it is varied and which types are asked for is drawn
    anew in each epoch, from seeds that are the same on every worker. Types that differ in case
    only are the same. ``tokenizer`` is a directory.
    ``lexicon`` is the file of names that ``material.write_lexicon`` made, needed where names are
    replaced.
    """

    task: Task
    tokenizer: str
    stop: int
    tuning: TuningStage
    seed: int
    lexicon: str | None = None

    def __call__(self, rows: pa.Table, epoch: int) -> pa.Table:
        """See :data:`Encode`."""
        tuning = self.tuning
        encoder = ExampleEncoder(
            self.task, load_tokenizer(self.tokenizer), self.stop, tuning.prompt_weight,
            tuning.marker_weight,
        )  # fmt: skip
        named = speller(self.task.entity_types)
        sequences: list[TokenSequence] = []
        for row in rows.to_pylist():
            name = (row["corpus"], row["document"], row["part"], row["form"])
            random = Random(stable_seed(self.seed, epoch, *name))
            weight = tuning.weights.get(row["corpus"], 1.0)
            mentions = [
                TypedSpan(m["start"], m["end"], named(m["entity_type"])) for m in row["mentions"]
            ]
            annotated = [named(name) for name in row["annotated_types"]]
            for _ in range(int(weight) + (random.random() < weight % 1)):
                for asked in self._ask(encoder.questions(annotated), random):
                    positive = any(m.entity_type in asked for m in mentions)
                    if not positive and random.random() >= tuning.keep_negatives:
                        continue
                    varied = self._vary(row["text"], mentions, row["form"], random)
                    try:
                        sequence = encoder.encode(*varied, asked)
                    except ValueError:  # the text holds a marker of its own
                        continue
                    if len(sequence.ids) <= tuning.max_tokens:
                        sequences.append(sequence)
        return _to_table(sequences)

    def _vary(
        self, text: str, mentions: list[TypedSpan], form: str, random: Random
    ) -> tuple[str, list[TypedSpan]]:
        variation = self.tuning.variation
        if variation.replace and self.lexicon:
            lexicon = _read_lexicon(self.lexicon, form)
            text, mentions = replace_names(text, mentions, lexicon, variation.replace, random)
        if form == "raw" and random.random() < variation.set_apart:
            text, mentions = set_apart(text, mentions)
        if variation.cut:
            text, mentions = cut_words(text, mentions, variation.cut, random)
        return text, mentions

    def _ask(self, questions: list[tuple[str, ...]], random: Random) -> Sequence[tuple[str, ...]]:
        """All questions, if each type has a prompt of its own.

        Otherwise one: half the time the one for all types, else any of them.
        """
        if self.task.ask == "each" or not questions:
            return questions
        return [questions[-1] if random.random() < 0.5 else random.choice(questions)]


@dataclass(frozen=True, slots=True)
class EncodeTexts:
    """An :data:`Encode` of rows with ``text``, for the language stage; can be sent to workers."""

    tokenizer: str
    max_tokens: int
    restore: float
    seed: int

    def __call__(self, rows: pa.Table, epoch: int) -> pa.Table:
        """See :data:`Encode`."""
        encoder = TextEncoder(load_tokenizer(self.tokenizer), self.max_tokens, self.restore)
        sequences: list[TokenSequence] = []
        for text in rows["text"].to_pylist():
            sequences += encoder.encode(text, stable_seed(self.seed, epoch, text))
        return _to_table(sequences)


def stream(folder: str, encode: Encode) -> Iterator[TokenSequence]:
    """The sequences of one epoch after another, without end, read by pyarrow alone."""
    dataset = ds.dataset(sorted(map(str, Path(folder).glob("*.parquet"))))
    for epoch in count():
        for batch in dataset.to_batches(batch_size=_ENCODE_ROWS):
            yield from _from_table(encode(pa.Table.from_batches([batch]), epoch))


def stream_by_ray(folder: str, encode: Encode) -> Iterator[TokenSequence]:
    """The same as :func:`stream`, but read and encoded by tasks of Ray Data while the model learns.

    One file is read ahead. One dataset over all files would not do: while its consumer is slow, its
    executor spins without a pause in the process that trains, which then ran at a third of its
    speed.
    """
    import ray.data

    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.use_datasource_v2 = False  # as in engine/runs/cluster.py
    files = sorted(map(str, Path(folder).glob("*.parquet")))

    def read(epoch: int, file: str) -> list[pa.Table]:
        encoded = ray.data.read_parquet(file).map_batches(
            partial(encode, epoch=epoch), batch_size=_ENCODE_ROWS, batch_format="pyarrow"
        )
        return list(encoded.iter_batches(batch_size=None, batch_format="pyarrow"))

    with ThreadPoolExecutor(1) as ahead:
        parts = ((epoch, file) for epoch in count() for file in files)
        following = ahead.submit(read, *next(parts))
        while True:
            tables = following.result()
            following = ahead.submit(read, *next(parts))
            for table in tables:
                yield from _from_table(table)


@lru_cache(maxsize=2)
def _read_lexicon(path: str, form: str) -> Lexicon:
    names: Lexicon = json.loads(Path(path).read_text())[form]
    return names


def _to_table(sequences: Sequence[TokenSequence]) -> pa.Table:
    columns = ([s.ids for s in sequences], [s.weights for s in sequences])
    return pa.table(
        [pa.array(c, f.type) for c, f in zip(columns, SEQUENCE_SCHEMA, strict=True)],
        schema=SEQUENCE_SCHEMA,
    )


def _from_table(table: pa.Table) -> Iterator[TokenSequence]:
    for ids, weights in zip(table["ids"].to_pylist(), table["weights"].to_pylist(), strict=True):
        yield TokenSequence(ids, weights)
