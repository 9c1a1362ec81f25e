"""Two files of the same texts, gold and predicted, to pairs that can be scored.

Enters: PubTator or IOB. Leaves: gold texts, each with the predicted mentions. Left to others:
scoring. Whoever made the predictions, the texts must be the same: offsets in another text, or tags
of other tokens, would be scored without meaning anything.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import IO

from engine.corpora.formats.iob import read_iob
from engine.corpora.formats.lines import read_lines
from engine.corpora.formats.pubtator import read_pubtator
from engine.corpora.formats.texts import AnnotatedText, Fault
from engine.storage.filesystem import filesystem
from schemas.errors import DamagedSource, UsageError
from schemas.spans import TypedSpan


@dataclass(frozen=True, slots=True)
class Pair:
    """A text's number in its file, and what is gold and what was predicted in it."""

    document: str
    gold: list[TypedSpan]
    predicted: list[TypedSpan]


@dataclass(slots=True)
class Pairs:
    """All texts of the gold file, in its order.

    ``missing`` are the documents that the predictions do not have: they count as no predictions.
    ``extra`` are those that gold does not have: they are left out.
    """

    pairs: list[Pair] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)


def read_pairs(gold: str, predictions: str) -> Pairs:
    """Read both files, in the format that they are in.

    PubTator's documents are matched by id, and by order where an id stands several times. IOB's
    sentences are matched by order: none may be missing.

    Raises:
        UsageError: if a file cannot be read, the formats differ, or the texts do, naming the
            document or line.
    """
    are_pubtator = [_is_pubtator(file) for file in (gold, predictions)]
    if are_pubtator[0] != are_pubtator[1]:
        kinds = ["PubTator" if is_pubtator else "IOB" for is_pubtator in are_pubtator]
        raise UsageError(
            f"{gold} is {kinds[0]}, {predictions} is {kinds[1]}; expected both to be the same"
        )
    return (_pair_documents if are_pubtator[0] else _pair_sentences)(gold, predictions)


def _is_pubtator(file: str) -> bool:
    """PubTator begins with ``PMID|t|title``; anything else is taken for IOB."""
    first = next((line for line in _lines(file) if line.strip()), None)
    if first is None:
        raise UsageError(f"{file}: is empty; expected PubTator or IOB")
    return re.match(r"[^|\s]+\|[ta]\|", first) is not None


@contextmanager
def _opened(file: str) -> Iterator[IO[bytes]]:
    try:
        fs, path = filesystem(file)
        with fs.open(path, "rb") as stream:
            yield stream
    except (OSError, DamagedSource) as e:
        raise UsageError(f"{file}: cannot be read: {e}") from e


def _lines(file: str) -> Iterator[str]:
    with _opened(file) as stream:
        for number, line in read_lines(stream):
            if isinstance(line, UnicodeDecodeError):
                raise UsageError(f"{file}, line {number}: not UTF-8: {line}")
            yield line


def _read(
    file: str, reader: Callable[[IO[bytes]], Iterator[AnnotatedText | Fault]]
) -> list[AnnotatedText]:
    """All texts; one of which the mentions cannot be told is refused: neither could its score."""
    found = []
    with _opened(file) as stream:
        for item in reader(stream):
            for fault in [item] if isinstance(item, Fault) else item.faults:
                if fault.fatal:
                    raise UsageError(f"{file}, {fault.place}: {fault.reason}: {fault.found}")
            if isinstance(item, AnnotatedText):
                found.append(item)
    return found


def _pair_documents(gold: str, predictions: str) -> Pairs:
    waiting: dict[str, list[AnnotatedText]] = defaultdict(list)
    for text in reversed(_read(predictions, read_pubtator)):
        waiting[text.document].append(text)
    result = Pairs()
    for ours in _read(gold, read_pubtator):
        if not waiting[ours.document]:
            result.missing.append(ours.document)
            result.pairs.append(Pair(ours.document, ours.mentions, []))
            continue
        theirs = waiting[ours.document].pop()
        if theirs.text != ours.text:
            raise UsageError(
                f"{predictions}, {theirs.place}: the text is not that of {gold}, {ours.place}: "
                f"{_difference(theirs.text, ours.text)}"
            )
        result.pairs.append(Pair(ours.document, ours.mentions, theirs.mentions))
    result.extra = [text.document for texts in waiting.values() for text in texts]
    return result


def _pair_sentences(gold: str, predictions: str) -> Pairs:
    reader = partial(read_iob, name=PurePosixPath(gold).name)
    ours, theirs = _read(gold, reader), _read(predictions, reader)
    result = Pairs()
    for one, other in zip(ours, theirs, strict=False):
        if other.text != one.text:
            raise UsageError(
                f"{predictions}, {other.place}: the tokens are not those of {gold}, {one.place}: "
                f"{_difference(other.text, one.text)}"
            )
        result.pairs.append(Pair(one.document, one.mentions, other.mentions))
    if len(ours) != len(theirs):
        longer, file = (ours, gold) if len(ours) > len(theirs) else (theirs, predictions)
        raise UsageError(
            f"{predictions}: {len(theirs):,} sentences, expected {len(ours):,} as in {gold}; the "
            f"first without a partner is at {file}, {longer[len(result.pairs)].place}"
        )
    return result


def _difference(found: str, expected: str) -> str:
    """The first place where two texts part, with what stands there."""
    shorter = min(len(found), len(expected))
    at = next((i for i in range(shorter) if found[i] != expected[i]), shorter)
    at = max(found.rfind(" ", 0, at), expected.rfind(" ", 0, at)) + 1  # whole words are said
    return f"at {at} stands {found[at : at + 20]!r}, expected {expected[at : at + 20]!r}"
