"""Corpora to Parquet files of examples.

Enters: which files make up which corpora. Leaves: per corpus and unit, ``NAME.UNITs.parquet``
(EXAMPLES_SCHEMA), ``NAME.UNITs.quarantine.jsonl``, and counts. Nothing is written if a corpus has
no example at all. Left to others: formats
(:mod:`engine.corpora.formats.read`), and what is quarantined (:mod:`engine.corpora.examples`).
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal

import pyarrow.parquet as pq

from engine.corpora.examples import (
    UNKNOWN,
    Built,
    Counts,
    Quarantined,
    Unit,
    build_examples,
    to_table,
)
from engine.corpora.formats.read import read_files
from engine.corpora.formats.texts import AnnotatedText, Fault
from engine.corpora.provenance import find_documents
from engine.corpora.splits import choose_split, is_dev, key_of_lines
from engine.corpora.types import parse_type_map
from engine.storage.whole_file import open_target
from schemas.credentials import without_credentials
from schemas.errors import Faults, UsageError
from schemas.examples import QUARANTINE

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
    its quarantined units. ``without_examples`` are its files of which nothing became an example,
    each with what was found."""

    corpus: str
    unit: Unit
    annotated_types: list[str]
    counts: dict[str, Counts]
    paths: tuple[str, str]
    without_examples: list[str]


@dataclass(slots=True)
class _Read:
    corpus: Corpus
    items: list[tuple[str, AnnotatedText | Fault]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    """For each of ``items``, its file."""
    pmids: list[set[int]] = field(default_factory=list)
    """For each of ``items``, the PMIDs of the documents that it may be from."""


def import_corpora(corpora: Sequence[Corpus], to: str, force: bool = False) -> list[Imported]:
    """Read ``corpora``, give every text its split, and write their examples under ``to``.

    Raises:
        UsageError: if a file cannot be opened or is not of its format, if a corpus holds no text
            or an unknown type, if nothing of it became an example, or if a target exists and
            ``force`` is not set. Nothing is written then.
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
    reads = {c.name: _read(c) for c in corpora}
    for read in reads.values():
        _find_pmids(read, reads)
    dev_pmids = _find_dev(reads)
    made = [_build(read, unit, dev_pmids) for read in reads.values() for unit in read.corpus.units]
    faults = Faults()
    for one in made:
        if not one.built.examples:
            faults.add(
                f"corpus {one.corpus.name}: no {one.unit} of it became an example:\n  "
                + "\n  ".join(one.without_examples)
            )
    faults.raise_any()
    try:
        Path(to).mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UsageError(f"target {to}: cannot be made: {e}") from e
    return [_write(one, to, force) for one in made]


def _read(corpus: Corpus) -> _Read:
    read = _Read(corpus)
    for split, files in corpus.files.items():
        for file in files:
            shown, first, empty = without_credentials(file), None, True
            for name, item in read_files(file, corpus.format, corpus.tokenised):
                if isinstance(item, AnnotatedText):
                    empty = False
                elif first is None:
                    first = item
                read.items.append((split, _within_file(item, name)))
                within = f", {name}" * (name != PurePosixPath(shown).name)
                read.files.append(f"{split} file {shown}{within}")
            if empty:
                why = f": {first.place}: {first.reason}: {first.found:.120}" if first else ""
                raise UsageError(f"corpus {corpus.name}, {shown}: holds no text{why}")
    return read


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
    return Path(to) / f"{stem}.parquet", Path(to) / f"{stem}{QUARANTINE}"


@dataclass(frozen=True, slots=True)
class _Made:
    corpus: Corpus
    unit: Unit
    annotated_types: list[str]
    built: Built
    without_examples: list[str]


def _build(read: _Read, unit: Unit, dev_pmids: set[int]) -> _Made:
    types = parse_type_map(read.corpus.types)
    built = build_examples(_with_splits(read, dev_pmids), types, unit)
    return _Made(read.corpus, unit, types.annotated, built, _without_examples(read, built))


def _without_examples(read: _Read, built: Built) -> list[str]:
    """The files of which nothing became an example, or repeats one, each with its first fault."""
    texts = Counter(read.files)
    for number in built.represented:
        texts.pop(read.files[number], None)
    faults: dict[str, list[Quarantined]] = {file: [] for file in texts}
    for row in built.quarantined:
        if (file := read.files[row.item]) in faults:
            faults[file].append(row)
    told = []
    for file, rows in faults.items():
        reasons = Counter(row.reason for row in rows)
        counted = ", ".join(f"{reason} {n:,}" for reason, n in sorted(reasons.items()))
        first = f"{rows[0].place}: {rows[0].reason}: {rows[0].found:.120}"
        size = f"{texts[file]:,} text{'' if texts[file] == 1 else 's'}"
        told.append(f"{file}: all of {size} set aside ({counted}), first {first}")
    return told


def _write(made: _Made, to: str, force: bool) -> Imported:
    corpus, unit, built = made.corpus, made.unit, made.built
    examples, quarantine = _paths(corpus, unit, to)
    table = to_table(built.examples, corpus.name, unit, made.annotated_types)
    with open_target(str(examples), force) as out:
        pq.write_table(table, out, compression="zstd")
    with open_target(str(quarantine), force) as out:
        for row in built.quarantined:
            values = {"corpus": corpus.name} | asdict(row)
            del values["item"]
            out.write(json.dumps(values).encode() + b"\n")
    paths = (str(examples), str(quarantine))
    return Imported(
        corpus.name, unit, made.annotated_types, built.counts, paths, made.without_examples
    )


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
