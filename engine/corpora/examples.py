"""Annotated texts to examples: cut into units, types mapped, damaged units quarantined.

Enters: what a reader yields, with a split for each text. Leaves: rows of EXAMPLES_SCHEMA, and a
:class:`Quarantined` row for each fault. Left to others: reading, choosing splits, and leaks between
splits (:mod:`engine.corpora.leaks`).

A fault quarantines its whole unit (the sentence, or the citation), since an example that lacks a
mention teaches the model not to mark it. Which faults do so depends on the split:

- train, dev: all. A text that occurs again with the same mentions is quarantined after its first
  occurrence, so that no sentence counts twice. A text that occurs with different mentions is
  quarantined everywhere, since it cannot be told which are right.
- test: only fatal faults, where the gold cannot be told. Units whose gold is in doubt stay, and so
  do repeated texts, since published figures are counted with them. Their faults are reported.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from engine.corpora.formats.texts import AnnotatedText, Fault
from engine.corpora.types import TypeMap
from engine.steps.sentences import split_sentences
from schemas.examples import EXAMPLES_SCHEMA
from schemas.spans import Span, TypedSpan

Unit = Literal["sentence", "citation"]
Form = Literal["raw", "tokenised"]

UNKNOWN = "unknown"
"""The split of a text whose split cannot be told; none of its units becomes an example."""


class Example(NamedTuple):
    """A row of EXAMPLES_SCHEMA, with its mentions as spans. ``item`` is the number of the text that
    it was made of, from 0."""

    split: str
    document: str
    part: int
    pmid: int | None
    text: str
    title_length: int | None
    mentions: list[TypedSpan]
    form: Form
    item: int


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A fault, and the text of the unit that has it, null if there is no text.

    ``place`` is where in the file, ``reason`` a key of ``REASONS``, ``found`` what was found,
    ``item`` the number of the text, from 0.
    ``kept``: the unit is an example nevertheless, since it is of a test split and its gold is only
    in doubt.
    """

    split: str
    document: str | None
    part: int | None
    place: str
    reason: str
    found: str
    text: str | None
    kept: bool
    item: int


@dataclass(slots=True)
class Counts:
    """Counts of one split of a corpus.

    ``read`` counts mentions by the corpus's own types; with ``unplaced``, those that could not be
    given a span, these are all mentions of the files. Each mention of ``read`` is counted in one of
    four: ``mentions`` (in examples, by our types), ``left_out`` (by own type, if mapped to none of
    ours), ``merged`` (if two own types became the same mention), or ``lost`` (in a quarantined
    unit, or cut by a sentence's border). ``quarantined`` and ``reported`` count faults by reason:
    those of units that are quarantined, and those of units that are examples nevertheless.
    """

    documents: int = 0
    examples: int = 0
    with_mentions: int = 0
    read: Counter[str] = field(default_factory=Counter)
    unplaced: int = 0
    mentions: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    merged: int = 0
    lost: int = 0
    quarantined_units: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)
    reported: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Built:
    """Examples and faults of one corpus, in the corpus's order, and counts by split.

    ``represented`` are the numbers of the texts that became an example, or repeat one that did.
    """

    examples: list[Example] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    counts: dict[str, Counts] = field(default_factory=dict)
    represented: set[int] = field(default_factory=set)


def build_examples(
    annotated: Iterable[tuple[str, AnnotatedText | Fault]], types: TypeMap, unit: Unit
) -> Built:
    """Make examples of ``(split, text)`` pairs.

    Texts of unit ``sentence`` stay as they are; citations are cut into sentences if ``unit`` is
    ``sentence``. All of the split ``unknown`` is quarantined. ``part`` counts a document's units
    from 0, quarantined ones included.

    Raises:
        UsageError: for a type that ``types`` does not map.
    """
    built = Built()
    parts: Counter[str] = Counter()
    for number, (split, item) in enumerate(annotated):
        counts = built.counts.setdefault(split, Counts())
        if isinstance(item, Fault):
            row = Quarantined(
                split, None, None, item.place, item.reason, item.found, None, False, number
            )
            built.quarantined.append(row)
            counts.quarantined_units += 1
            continue
        counts.documents += item.document not in parts
        counts.unplaced += item.unplaced
        mentions = _map_types(item, types, counts)
        counts.lost += len(mentions)
        for cut, inside, faults in _cut(item, mentions, unit, split):
            text = item.text[cut.start : cut.end]
            title_length = item.title_length if unit == item.unit == "citation" else None
            part = parts[item.document]
            example = Example(
                split, item.document, part, item.pmid, text, title_length, inside, item.form, number
            )
            parts[item.document] += 1
            kept = not any(f.fatal or split != "test" for f in faults)
            built.quarantined += [_quarantine(example, f, kept) for f in faults]
            if kept:
                built.examples.append(example)
                counts.lost -= len(inside)
            else:
                counts.quarantined_units += 1
    _judge_repeated(built)
    for example in built.examples:
        counts = built.counts[example.split]
        built.represented.add(example.item)
        counts.examples += 1
        counts.with_mentions += bool(example.mentions)
        counts.mentions.update(m.entity_type for m in example.mentions)
    for row in built.quarantined:
        counts = built.counts[row.split]
        (counts.reported if row.kept else counts.quarantined)[row.reason] += 1
    return built


def to_table(
    examples: Sequence[Example], corpus: str, unit: Unit, annotated_types: Sequence[str]
) -> pa.Table:
    """Rows of EXAMPLES_SCHEMA, in order."""
    rows: list[dict[str, Any]] = [
        {
            "corpus": corpus,
            "split": e.split,
            "document": e.document,
            "part": e.part,
            "pmid": e.pmid,
            "unit": unit,
            "form": e.form,
            "text": e.text,
            "title_length": e.title_length,
            "mentions": [
                {
                    "start": m.start,
                    "end": m.end,
                    "text": e.text[m.start : m.end],
                    "entity_type": m.entity_type,
                }
                for m in e.mentions
            ],
            "annotated_types": list(annotated_types),
        }
        for e in examples
    ]
    return pa.Table.from_pylist(rows, EXAMPLES_SCHEMA)


def _map_types(item: AnnotatedText, types: TypeMap, counts: Counts) -> list[TypedSpan]:
    mentions = []
    for mention in item.mentions:
        counts.read[mention.entity_type] += 1
        ours = types.map(mention.entity_type, item.place)
        if ours is None:
            counts.left_out[mention.entity_type] += 1
        else:
            mentions.append(TypedSpan(mention.start, mention.end, ours))
    distinct = sorted(set(mentions))
    counts.merged += len(mentions) - len(distinct)
    return distinct


def _cut(
    item: AnnotatedText, mentions: list[TypedSpan], unit: Unit, split: str
) -> Iterator[tuple[Span, list[TypedSpan], list[Fault]]]:
    """The units of a text, each with the mentions that lie wholly in it, and its faults."""
    cuts = [Span(0, len(item.text))]
    if unit == "sentence" and item.unit == "citation":
        cuts = split_sentences(item.text, item.title_length or 0) or cuts
    faults = list(item.faults)
    if not item.text.strip():
        faults.append(Fault(item.place, "malformed text", "is empty"))
    if split == UNKNOWN:
        faults.append(Fault(item.place, "unknown document", "lies between two of other splits"))
    for m in mentions:
        if not any(cut.start <= m.start and m.end <= cut.end for cut in cuts):
            found = f"{item.text[m.start : m.end]!r} at {m.start}-{m.end}"
            faults.append(Fault(item.place, "cut by a sentence's border", found, m.span))
    for cut in cuts:
        inside = [
            TypedSpan(m.start - cut.start, m.end - cut.start, m.entity_type)
            for m in mentions
            if cut.start <= m.start and m.end <= cut.end
        ]
        yield cut, inside, [f for f in faults if _touches(f, cut, cuts)]


def _touches(fault: Fault, cut: Span, cuts: list[Span]) -> bool:
    span = fault.span
    # A fault outside all units, as between two sentences, counts for each of them.
    return span is None or span.overlaps(cut) or not any(span.overlaps(c) for c in cuts)


def _judge_repeated(built: Built) -> None:
    """Report repeated and contradicted texts, and remove them from train and dev."""
    # Texts of a test split are compared among themselves only; the leak check compares them with
    # the other splits, without their gold.
    by_text: dict[tuple[str, bool], list[Example]] = {}
    for example in built.examples:
        by_text.setdefault((example.text, example.split == "test"), []).append(example)
    out: set[int] = set()
    for group in by_text.values():
        contradicted = any(e.mentions != group[0].mentions for e in group)
        for example in group if contradicted else group[1:]:
            other = next(e for e in group if e is not example)
            reason = "contradicted text" if contradicted else "repeated text"
            found = f"also document {other.document}, part {other.part} ({other.split})"
            kept = example.split == "test"
            place = f"document {example.document}, part {example.part}"
            built.quarantined.append(_quarantine(example, Fault(place, reason, found), kept))
            if not kept:
                out.add(id(example))
                built.counts[example.split].lost += len(example.mentions)
                built.counts[example.split].quarantined_units += 1
                if not contradicted:
                    built.represented.add(example.item)
    built.examples = [e for e in built.examples if id(e) not in out]


def _quarantine(example: Example, fault: Fault, kept: bool) -> Quarantined:
    return Quarantined(
        example.split,
        example.document,
        example.part,
        fault.place,
        fault.reason,
        fault.found,
        example.text,
        kept,
        example.item,
    )
