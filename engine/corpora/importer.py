"""Corpora to Parquet files of examples.

Enters: which files make up which corpora. Leaves: per corpus and unit, ``NAME.UNITs.parquet``
(EXAMPLES_SCHEMA), ``NAME.UNITs.quarantine.jsonl``, and counts. Left to others: formats
(:mod:`engine.corpora.formats.read`), and what is quarantined (:mod:`engine.corpora.examples`).
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal

import pyarrow.parquet as pq

from engine.corpora.examples import UNKNOWN, Counts, Unit, build_examples, to_table
from engine.corpora.formats.read import read_corpus
from engine.corpora.formats.texts import AnnotatedText, Fault
from engine.corpora.provenance import find_documents
from engine.corpora.splits import choose_split, is_dev, key_of_lines
from engine.corpora.types import parse_type_map
from engine.storage.whole_file import open_target
from schemas.credentials import without_credentials
from schemas.errors import UsageError

DEV_SHARE = 0.1
"""The share of a train file's documents that become the dev split by hash."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """One corpus to import.

    ``files`` are paths or URIs by split. ``types`` is what :func:`parse_type_map` takes.
    ``lines_of`` names another corpus of the same import, from whose documents these lines were
    taken. ``tokenised`` describes ``<mark>`` text, whose files do not tell their form. ``dev`` says
    which documents of the train files are the dev split: ``none``, a share of them by ``hash``, or
    those from which no other corpus's train lines were taken (``published``). ``dev_block_lines``
    is for :func:`key_of_lines`.
    """

    name: str
    files: Mapping[str, Sequence[str]]
    format: str | None = None
    types: str | Mapping[str, str | None] | None = None
    units: Sequence[Unit] = ("sentence",)
    tokenised: bool = False
    lines_of: str | None = None
    dev: Literal["none", "hash", "published"] = "none"
    dev_block_lines: int = 1


@dataclass(slots=True)
class Imported:
    """One imported corpus in one unit: counts by split, and the ``paths`` of its examples and of
    its quarantined units."""

    corpus: str
    unit: Unit
    annotated_types: list[str]
    counts: dict[str, Counts]
    paths: tuple[str, str]


@dataclass(slots=True)
class _Read:
    corpus: Corpus
    items: list[tuple[str, AnnotatedText | Fault]] = field(default_factory=list)
    pmids: list[set[int]] = field(default_factory=list)
    """For each of ``items``, the PMIDs of the documents that it may be from."""


def import_corpora(corpora: Sequence[Corpus], to: str, force: bool = False) -> list[Imported]:
    """Read ``corpora``, give every text its split, and write their examples under ``to``.

    Raises:
        UsageError: if a file cannot be opened or is not of its format, if a corpus holds no text
            or an unknown type, or if a target exists and ``force`` is not set. Corpora that were
            written before the error stay.
    """
    names = [c.name for c in corpora]
    for name in names:
        if names.count(name) > 1 or "/" in name or not name:
            raise UsageError(f"corpus {name!r}: expected names that are distinct and without /")
    if missing := [c.lines_of for c in corpora if c.lines_of and c.lines_of not in names]:
        raise UsageError(f"lines_of {', '.join(missing)}: expected one of {', '.join(names)}")
    for corpus in corpora:
        parse_type_map(corpus.types)
        for unit in corpus.units:
            if not force and (taken := [p for p in _paths(corpus, unit, to) if p.exists()]):
                raise UsageError(f"target {taken[0]}: exists; --force replaces it")
    reads = {c.name: _Read(c, _read_files(c)) for c in corpora}
    for read in reads.values():
        _find_pmids(read, reads)
    dev_pmids = _find_dev(reads)
    try:
        Path(to).mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UsageError(f"target {to}: cannot be made: {e}") from e
    return [
        _write(read, unit, dev_pmids, to, force)
        for read in reads.values()
        for unit in read.corpus.units
    ]


def _read_files(corpus: Corpus) -> list[tuple[str, AnnotatedText | Fault]]:
    items: list[tuple[str, AnnotatedText | Fault]] = []
    for split, files in corpus.files.items():
        for file in files:
            read = list(read_corpus(file, corpus.format, corpus.tokenised))
            if not any(isinstance(item, AnnotatedText) for item in read):
                first = next((i for i in read if isinstance(i, Fault)), None)
                why = f": {first.place}: {first.reason}: {first.found:.120}" if first else ""
                raise UsageError(f"corpus {corpus.name}, {file}: holds no text{why}")
            name = PurePosixPath(without_credentials(file)).name
            items += [(split, _within_file(item, name)) for item in read]
    return items


def _within_file(item: AnnotatedText | Fault, name: str) -> AnnotatedText | Fault:
    if isinstance(item, Fault):
        return item._replace(place=f"{name}, {item.place}")
    faults = [f._replace(place=f"{name}, {f.place}") for f in item.faults]
    return replace(item, place=f"{name}, {item.place}", faults=faults)


def _find_pmids(read: _Read, reads: Mapping[str, _Read]) -> None:
    """Fill ``read.pmids``: of lines, with the PMIDs of the documents they were taken from."""
    read.pmids = [{pmid} if (pmid := _pmid(i)) is not None else set() for _, i in read.items]
    if read.corpus.lines_of is None:
        return
    documents = reads[read.corpus.lines_of].items
    for split in read.corpus.files:
        at = [
            i
            for i, (s, item) in enumerate(read.items)
            if s == split and isinstance(item, AnnotatedText)
        ]
        texts = [
            item.text for s, item in read.items if s == split and isinstance(item, AnnotatedText)
        ]
        known = [
            (item.pmid, item.text)
            for s, item in documents
            if s == split and isinstance(item, AnnotatedText) and item.pmid is not None
        ]
        for i, pmids in zip(at, find_documents(texts, known), strict=True):
            read.pmids[i] = pmids
            item = read.items[i][1]
            if len(pmids) == 1 and isinstance(item, AnnotatedText):
                read.items[i] = (split, replace(item, pmid=min(pmids)))


def _find_dev(reads: Mapping[str, _Read]) -> set[int]:
    """The PMIDs of all documents of the dev split."""
    published, drawn, fixed = set[int](), set[int](), set[int]()
    for name, read in reads.items():
        pmids = {p for (s, _), ps in zip(read.items, read.pmids, strict=True) if s == "train"
                 for p in ps}  # fmt: skip
        if read.corpus.dev == "published":
            taken = {
                pmid
                for other in reads.values()
                if other.corpus.lines_of == name
                for (split, _), candidates in zip(other.items, other.pmids, strict=True)
                if split == "train"
                for pmid in candidates
            }
            fixed |= pmids
            published |= pmids - taken
        elif read.corpus.dev == "hash":
            drawn |= {pmid for pmid in pmids if is_dev(str(pmid), DEV_SHARE)}
    # A published split stays as it is, even if another corpus shares its documents.
    return published | (drawn - fixed)


def _paths(corpus: Corpus, unit: Unit, to: str) -> tuple[Path, Path]:
    stem = f"{corpus.name}.{unit}s"
    return Path(to) / f"{stem}.parquet", Path(to) / f"{stem}.quarantine.jsonl"


def _write(read: _Read, unit: Unit, dev_pmids: set[int], to: str, force: bool) -> Imported:
    corpus = read.corpus
    types = parse_type_map(corpus.types)
    built = build_examples(_with_splits(read, dev_pmids), types, unit)
    examples, quarantine = _paths(corpus, unit, to)
    table = to_table(built.examples, corpus.name, unit, types.annotated)
    with open_target(str(examples), force) as out:
        pq.write_table(table, out, compression="zstd")
    with open_target(str(quarantine), force) as out:
        for row in built.quarantined:
            out.write(json.dumps({"corpus": corpus.name} | asdict(row)).encode() + b"\n")
    paths = (str(examples), str(quarantine))
    return Imported(corpus.name, unit, types.annotated, built.counts, paths)


def _with_splits(read: _Read, dev_pmids: set[int]) -> list[tuple[str, AnnotatedText | Fault]]:
    by_hash = read.corpus.dev == "hash"
    texts = [item.text if isinstance(item, AnnotatedText) else "" for _, item in read.items]
    blocks = key_of_lines(texts, read.corpus.dev_block_lines)
    # Sentences that share a document are drawn together, by its number; others by their words.
    named = any(n > 1 for n in Counter(_document(item) for _, item in read.items).values())
    named |= any(
        isinstance(item, AnnotatedText) and item.unit == "citation" for _, item in read.items
    )
    items = []
    for (split, item), pmids, block in zip(read.items, read.pmids, blocks, strict=True):
        chosen = split
        if split == "train" and isinstance(item, AnnotatedText):
            key = item.document if named else block
            chosen = choose_split(pmids, dev_pmids, by_hash and is_dev(key, DEV_SHARE))
        items.append((chosen, item))
    return items


def _document(item: AnnotatedText | Fault) -> str:
    return item.document if isinstance(item, AnnotatedText) else item.place


def _pmid(item: AnnotatedText | Fault) -> int | None:
    return item.pmid if isinstance(item, AnnotatedText) else None


__all__ = ["DEV_SHARE", "UNKNOWN", "Corpus", "Imported", "import_corpora"]
