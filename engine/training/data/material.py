"""What a stage learns from: prepared once, before training.

Enters: examples, or texts. Leaves: a folder of Parquet without leaks, in a random order that
depends on nothing but the seed, and a lexicon of names. Left to others: encoding rows (encode.py).
"""

import gzip
import json
import shutil
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from engine.corpora.leaks import HeldOut
from engine.scoring.gold import find_examples
from engine.sources.read import read_citations
from engine.sources.shards import Shard, find_shards
from engine.training.data.variation import set_apart
from schemas.errors import UsageError
from schemas.examples import EXAMPLES_SCHEMA

_ORDER = pa.field("order", pa.uint64())
"""A random number for each row, by which rows are sorted."""
_FILE_ROWS = 16_384
"""Rows of one prepared file, those removed included."""

_TEXT_SCHEMA = pa.schema(
    [("text", pa.string()), ("pmid", pa.int64()), ("title_length", pa.int32())]
)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A folder of prepared rows, and how many. ``leaks`` counts the rows removed, by what they
    share with a test split."""

    folder: str
    rows: int
    leaks: dict[str, int]


def prepare_examples(
    sources: Sequence[str], splits: Sequence[str], held_out: HeldOut, folder: Path, seed: int
) -> Prepared:
    """Prepare the examples of ``splits`` that share nothing with a test split.

    Raises:
        UsageError: if a source is missing or is not Parquet, or if no example is left.
    """
    import ray.data

    def keep(table: pa.Table) -> pa.Table:
        return table.filter(pc.is_in(table["split"], pa.array(splits)))

    paths = _parquet(sources)
    examples = ray.data.read_parquet(paths).select_columns(EXAMPLES_SCHEMA.names)
    rows = examples.map_batches(keep, batch_format="pyarrow", batch_size=None)
    key = ("corpus", "document", "part", "form")
    return _prepare(rows, key, held_out, folder, seed, f"example of split {' or '.join(splits)}")


def prepare_texts(sources: Sequence[str], held_out: HeldOut, folder: Path, seed: int) -> Prepared:
    """Prepare the texts that share nothing with a test split.

    Sources are files of lines (``.txt``, ``.txt.gz``: an abstract, or a title, a tab and an
    abstract), or anything that ``annotate`` reads.

    Raises:
        UsageError: if a source is missing, or if no text is left.
    """
    import ray.data

    lines = [s for s in sources if s.endswith((".txt", ".txt.gz"))]
    if missing := [s for s in lines if not Path(s).is_file()]:
        raise UsageError(f"{', '.join(missing)}: does not exist; expected a file of abstracts")
    shards = (
        find_shards([s for s in sources if s not in lines]) if len(lines) < len(sources) else []
    )
    parts = [*lines, *shards]

    def read(batch: dict[str, Any]) -> Iterator[pa.Table]:
        for index in batch["index"]:
            part = parts[index]
            yield from _lines(part) if isinstance(part, str) else _citations(part)

    rows = ray.data.from_items([{"index": i} for i in range(len(parts))]).map_batches(
        read, batch_size=1
    )
    return _prepare(rows, ("text",), held_out, folder, seed, "text")


def write_lexicon(folder: str, weights: dict[str, float], target: Path) -> None:
    """Write the distinct names of all mentions in prepared examples, by form and type, as JSON.

    Types are in folded case. Names of raw texts, with their words set apart, serve tokenised texts
    too. Corpora of weight 0 contribute no names.
    """
    names: dict[str, dict[str, set[str]]] = {"raw": {}, "tokenised": {}}
    dataset = ds.dataset(sorted(map(str, Path(folder).glob("*.parquet"))))
    for batch in dataset.to_batches(columns=["corpus", "text", "form", "mentions"]):
        for row in batch.to_pylist():
            if not weights.get(row["corpus"], 1.0):
                continue
            for m in row["mentions"]:
                name, kind = row["text"][m["start"] : m["end"]], m["entity_type"].casefold()
                names[row["form"]].setdefault(kind, set()).add(name)
                names["tokenised"].setdefault(kind, set()).add(set_apart(name, [])[0])
    part = target.with_suffix(".part")
    part.write_text(json.dumps({f: {t: sorted(n) for t, n in o.items()} for f, o in names.items()}))
    part.replace(target)


def held_out_texts(sources: Sequence[str]) -> HeldOut:
    """What training must not see: the test splits of examples."""
    table = ds.dataset(_parquet(sources)).to_table(
        columns=["text", "pmid", "title_length"], filter=pc.field("split") == "test"
    )
    return HeldOut.from_examples(table)


def read_column(folder: str, column: str = "text") -> Iterator[str]:
    """One column of prepared rows, in their order."""
    for batch in ds.dataset(sorted(map(str, Path(folder).glob("*.parquet")))).to_batches([column]):
        yield from batch[column].to_pylist()


def _prepare(
    rows: Any, key: Sequence[str], held_out: HeldOut, folder: Path, seed: int, what: str
) -> Prepared:
    """Write a Ray dataset to ``folder`` without leaks, in the order of ``key``'s hashes.

    Done once: a folder with its note is taken as it is. ``what`` names a row in the error.
    """
    import ray

    note = folder / "prepared.json"
    if note.exists():
        return Prepared(**json.loads(note.read_text()))
    known = ray.put(held_out)

    def judge(table: pa.Table) -> pa.Table:
        held: HeldOut = ray.get(known)
        columns = (table[c].to_pylist() for c in ("text", "pmid", "title_length"))
        leaks = [held.shares(*row) for row in zip(*columns, strict=True)]
        names = zip(*(table[k].to_pylist() for k in key), strict=True)
        order = [_mix(seed, name) for name in names]
        return table.append_column(_ORDER, pa.array(order, _ORDER.type)).append_column(
            "leak", pa.array([leak.kind if leak else None for leak in leaks], pa.string())
        )

    judged = rows.map_batches(judge, batch_format="pyarrow", batch_size=512).sort("order")
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    leaks: dict[str, int] = {}
    total = 0
    batches = judged.iter_batches(batch_size=_FILE_ROWS, batch_format="pyarrow")
    for number, batch in enumerate(batches):
        for entry in pc.value_counts(batch["leak"].drop_null()).to_pylist():
            leaks[entry["values"]] = leaks.get(entry["values"], 0) + entry["counts"]
        table = batch.filter(pc.is_null(batch["leak"])).drop_columns(["leak", "order"])
        pq.write_table(table, part / f"{number:06d}.parquet", compression="zstd")
        total += len(table)
    if not total:
        raise UsageError(f"there is no {what} to learn from (leaks removed: {leaks or 'none'})")
    prepared = Prepared(str(folder), total, leaks)
    (part / note.name).write_text(json.dumps(asdict(prepared)))
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    return prepared


def _mix(seed: int, name: Sequence[object]) -> int:
    """A hash of 64 bits that is the same in every process."""
    data = repr((seed, *name)).encode()
    return zlib.crc32(data) << 32 | zlib.crc32(data[::-1])


def _parquet(sources: Sequence[str]) -> list[str]:
    return [s.uri for s in find_examples(sources)]


def _lines(path: str) -> Iterator[pa.Table]:
    opened = gzip.open if path.endswith(".gz") else open
    rows: list[dict[str, Any]] = []
    with opened(path, "rt", encoding="utf-8") as stream:
        for line in stream:
            head, tab, rest = line.rstrip("\n").partition("\t")
            title, abstract = (head, rest) if tab else ("", head)
            text = f"{title} {abstract}" if title else abstract
            rows.append({"text": text, "title_length": len(title) if title else None})
            if len(rows) == 4096:
                yield pa.Table.from_pylist(rows, _TEXT_SCHEMA)
                rows = []
    yield pa.Table.from_pylist(rows, _TEXT_SCHEMA)


def _citations(shard: Shard) -> Iterator[pa.Table]:
    for batch in read_citations(shard):
        yield pa.Table.from_batches([batch]).select(_TEXT_SCHEMA.names).cast(_TEXT_SCHEMA)
