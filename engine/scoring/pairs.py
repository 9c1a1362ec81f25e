"""Two files of the same texts, one gold and one predicted, to pairs of mentions and their counts.

Enters: two PubTator or two IOB files. Leaves: each gold text's mentions and the predicted ones.
Left to others: reading the files (engine/corpora/formats) and turning counts into scores
(scores.py).

The texts of both files must be the same: offsets into another text, or tags of other tokens, would
give scores that mean nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import PurePath

from engine.corpora.formats.read import FORMATS, first_line, read_corpus, tell_format
from engine.corpora.formats.texts import AnnotatedText, Fault
from engine.scoring.scores import Tally
from engine.scoring.types import alike, spell, spellings
from schemas.credentials import without_credentials
from schemas.errors import UsageError
from schemas.spans import TypedSpan


@dataclass(frozen=True, slots=True)
class Pair:
    """One text: its document's id, its gold mentions and the predicted ones."""

    document: str
    gold: list[TypedSpan]
    predicted: list[TypedSpan]


@dataclass(slots=True)
class Pairs:
    """All texts of the file ``gold``, in its order, with the mentions of the file ``predictions``.

    ``missing`` are documents that the predictions lack: they count as texts without predictions.
    ``extra`` are documents that gold lacks: they are left out.
    """

    gold: str
    predictions: str
    pairs: list[Pair] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)


def read_pairs(gold: str, predictions: str) -> Pairs:
    """Read both files; their first lines tell the format.

    PubTator documents are matched by id, and by order where an id stands several times. IOB
    sentences are matched by order, and none may be missing.

    Raises:
        UsageError: if a file cannot be read, is neither PubTator nor IOB, if the formats differ, or
            the texts do; the message names the document or line.
    """
    form, other = _tell_format(gold), _tell_format(predictions)
    if form != other:
        raise UsageError(
            f"{gold} is {FORMATS[form].title}, {predictions} is {FORMATS[other].title}; expected "
            "both to be the same"
        )
    pair = _pair_documents if form == "pubtator" else _pair_sentences
    result = Pairs(gold, predictions)
    pair(result, _read(gold, form), _read(predictions, form))
    return result


def score_pairs(pairs: Pairs, entity_types: Collection[str] | None = None) -> Tally:
    """The counts of all pairs, with the gold file's name as the corpus.

    A bare file does not declare which types it annotates. So every type that either file has is
    scored, as conlleval does it; ``entity_types`` narrows them. Types that differ in case only are
    one, by the name that gold gives it.

    Raises:
        UsageError: if one of ``entity_types`` is in neither file.
    """
    counts = _types(pairs)
    types = {name for by_type in counts for name in by_type}
    if entity_types is not None:
        chosen = spellings(types)
        asked = [spell(name, chosen) for name in entity_types]
        if unknown := [t for t in asked if t not in types]:
            raise UsageError(
                f"unknown entity type {', '.join(unknown)}; {pairs.gold} and {pairs.predictions} "
                f"have {', '.join(sorted(types)) or 'none'}"
            )
        types &= set(asked)
    tally, corpus = Tally(), PurePath(without_credentials(pairs.gold)).name
    chosen = _spelling(pairs)
    for pair in pairs.pairs:
        gold, predicted = (_spelled(m, chosen) for m in (pair.gold, pair.predicted))
        tally.add(corpus, pair.document, gold, predicted, types)
    return tally


def unmatched_types(pairs: Pairs, entity_types: Collection[str] | None = None) -> list[str]:
    """In words, the types of either file that the other has no mention of; ``entity_types`` narrows
    them. None of these can be right, so that a name written otherwise would score 0 unnoticed."""
    by_gold, by_predictions = _types(pairs)
    asked = None if entity_types is None else {name.casefold() for name in entity_types}
    told = []
    for file, own, other, others in (
        (pairs.gold, by_gold, pairs.predictions, by_predictions),
        (pairs.predictions, by_predictions, pairs.gold, by_gold),
    ):
        lone = {t: n for t, n in sorted(own.items()) if t not in others}
        for name, count in lone.items():
            if asked is not None and name.casefold() not in asked:
                continue
            near = alike(name, (o for o in others if o not in own))
            hint = f"; is it {near} there?" if near else ""
            mentions = f"{count:,} mention{'' if count == 1 else 's'}"
            told.append(f"type {name} has {mentions} in {file} and none in {other}{hint}")
    return told


def _types(pairs: Pairs) -> tuple[Counter[str], Counter[str]]:
    """How many mentions of each type gold and predictions have."""
    chosen = _spelling(pairs)
    gold = (m.entity_type for p in pairs.pairs for m in _spelled(p.gold, chosen))
    predicted = (m.entity_type for p in pairs.pairs for m in _spelled(p.predicted, chosen))
    return Counter(gold), Counter(predicted)


def _spelling(pairs: Pairs) -> dict[str, str]:
    """The name that stands for each type: gold's, or the predictions' where gold lacks the type."""
    gold = spellings(m.entity_type for p in pairs.pairs for m in p.gold)
    return spellings(m.entity_type for p in pairs.pairs for m in p.predicted) | gold


def _spelled(mentions: Collection[TypedSpan], chosen: dict[str, str]) -> list[TypedSpan]:
    return [m._replace(entity_type=spell(m.entity_type, chosen)) for m in mentions]


def _tell_format(file: str) -> str:
    line = first_line(file)
    if line is None:
        raise UsageError(f"{file}: is empty; expected PubTator or IOB")
    # IOB's reader names the line of a file that is no known format.
    form = tell_format(line) or "iob"
    if form not in ("pubtator", "iob"):
        raise UsageError(f"{file}: is {FORMATS[form].title}; expected PubTator or IOB")
    return form


def _read(file: str, form: str) -> list[AnnotatedText]:
    """All texts. A text whose gold cannot be told is refused, as it could not be scored."""
    texts = []
    for item in read_corpus(file, form, tokenised=False):
        for fault in [item] if isinstance(item, Fault) else item.faults:
            if fault.fatal:
                raise UsageError(f"{file}, {fault.place}: {fault.reason}: {fault.found}")
        if isinstance(item, AnnotatedText):
            texts.append(item)
    return texts


def _pair_documents(result: Pairs, gold: list[AnnotatedText], others: list[AnnotatedText]) -> None:
    waiting: dict[str, list[AnnotatedText]] = defaultdict(list)
    for text in reversed(others):
        waiting[text.document].append(text)
    for text in gold:
        if not waiting[text.document]:
            result.missing.append(text.document)
            result.pairs.append(Pair(text.document, text.mentions, []))
            continue
        other = waiting[text.document].pop()
        if other.text != text.text:
            raise UsageError(
                f"{result.predictions}, {other.place}: the text is not that of {result.gold}, "
                f"{text.place}: {_difference(other.text, text.text)}"
            )
        result.pairs.append(Pair(text.document, text.mentions, other.mentions))
    result.extra = [text.document for texts in waiting.values() for text in texts]


def _pair_sentences(result: Pairs, gold: list[AnnotatedText], others: list[AnnotatedText]) -> None:
    for text, other in zip(gold, others, strict=False):
        if other.text != text.text:
            raise UsageError(
                f"{result.predictions}, {other.place}: the tokens are not those of {result.gold}, "
                f"{text.place}: {_difference(other.text, text.text)}"
            )
        result.pairs.append(Pair(text.document, text.mentions, other.mentions))
    if len(gold) != len(others):
        longer = len(gold) > len(others)
        file, texts = (result.gold, gold) if longer else (result.predictions, others)
        raise UsageError(
            f"{result.predictions}: {len(others):,} sentences, expected {len(gold):,} as in "
            f"{result.gold}; the first without a partner is at {file}, "
            f"{texts[len(result.pairs)].place}"
        )


def _difference(found: str, expected: str) -> str:
    """Where two texts first differ, and the words that each has there."""
    shorter = min(len(found), len(expected))
    at = next((i for i in range(shorter) if found[i] != expected[i]), shorter)
    at = max(found.rfind(" ", 0, at), expected.rfind(" ", 0, at)) + 1  # from the word's beginning
    return f"at {at} stands {found[at : at + 20]!r}, expected {expected[at : at + 20]!r}"
