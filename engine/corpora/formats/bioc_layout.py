"""Where a BioC document's mentions are: its passages as texts of ours, and offsets in those.

Enters: a document as BioC JSON has it. Leaves: texts, each with the annotations that lie in it, and
the count that the document's offsets are in (counts.py). Left to others: reading files (bioc.py,
bioc_json.py), and what becomes of mentions without a place (bioc.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from engine.corpora.formats.counts import (
    STANDARD,
    Claim,
    Count,
    Origin,
    Ruler,
    agrees,
    counts_to_try,
)
from schemas.spans import Span

_NOT_BIOC = (KeyError, TypeError, ValueError, AttributeError)
_TITLE = ("title", "front")
_MAX_GAP = 100_000
"""Most spaces between two sentences, so that a wrong offset does not fill the memory with them."""


class Passage:
    """A passage's text, made of its sentences if it has only those, and the offset of its start.

    ``sentences`` are the starts of its sentences in its text. All offsets that the file gives are
    in ``count``.
    """

    def __init__(self, passage: Any, count: Count):
        infons = passage.get("infons") or {}
        self.kind = str(infons.get("type") or infons.get("section_type") or "").lower()
        self.start = int(passage["offset"])
        self.text = passage.get("text") or ""
        parts = passage.get("sentences") or []
        self.sentences = self._find(parts) if self.text else self._join(parts, count)
        self.ruler = Ruler(self.text, count)

    def _find(self, parts: Sequence[Any]) -> list[int]:
        """The starts of sentences in the passage's text; where one is not in it, that before."""
        starts, end = [], 0
        for part in parts:
            text = part.get("text") or ""
            start = self.text.find(text, end)
            starts.append(end if start < 0 else start)
            end = starts[-1] + (0 if start < 0 else len(text))
        return starts

    def _join(self, parts: Sequence[Any], count: Count) -> list[int]:
        """Make the passage's text of its sentences, as far apart as their offsets say."""
        if not parts:
            return []
        # Some files count the sentences' own offsets from the passage.
        first = int(parts[0]["offset"])
        origin = self.start if first >= self.start else 0
        starts = []
        for part in parts:
            gap = int(part["offset"]) - origin - Ruler(self.text, count).measure()
            if not 0 <= gap <= _MAX_GAP:
                raise ValueError(f"sentence at {part['offset']}, {gap} after the one before")
            self.text += " " * gap
            starts.append(len(self.text))
            self.text += part.get("text") or ""
        return starts


class Text:
    """One text of ours, made of passages. ``parts`` are these, each with its start in the text."""

    def __init__(self, passages: Sequence[tuple[int, Passage]]):
        self.text = ""
        self.parts: list[tuple[int, Passage, int]] = []
        self.title_length = 0
        for number, p in passages:
            start = len(self.text) + bool(self.parts)
            if self.parts and p.text:
                self.text += " "
            self.text += p.text
            self.parts.append((number, p, start))
            if len(self.parts) == 1:
                self.title_length = len(self.text)


class Placed(NamedTuple):
    """An annotation; what it says of its mention, null if it has no type or no valid locations; and
    those of its pieces that have a place in their text."""

    annotation: Any
    claim: Claim | None
    pieces: list[Span]


Layout = list[tuple[Text, list[Placed]]]
"""A document's texts, each with its annotations. Those that lie in no text are the first one's."""


@dataclass(frozen=True, slots=True)
class Recounted:
    """A document laid out, the count that its offsets are in, and how many of its mentions do not
    stand at theirs."""

    layout: Layout
    count: Count
    wrong: int
    mentions: int


def recount(document: Any) -> Recounted:
    """Lay a document out, in the count in which all of its mentions stand at their offsets; where
    there is none, in code points.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: if the document is not BioC.
    """
    fault = None
    layout: Layout | None = None
    try:
        layout = lay_out(document, STANDARD)
    except _NOT_BIOC as e:
        fault = e
    for strictly in (True, False):
        if layout is not None and not _wrong(layout, strictly)[0]:
            break
        for count in _counts(document):
            try:
                other = lay_out(document, count)
            except _NOT_BIOC:
                continue
            wrong, mentions = _wrong(other, strictly)
            if other and not wrong:
                return Recounted(other, count, wrong, mentions)
    if layout is None:
        assert fault is not None
        raise fault
    return Recounted(layout, STANDARD, *_wrong(layout, strictly=False))


def lay_out(document: Any, count: Count) -> Layout:
    """The texts of a document and their annotations, if all offsets are in ``count``.

    Title and abstracts are one text, every other passage is one of its own.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: if the document is not BioC.
    """
    passages = [Passage(p, count) for p in document["passages"]]
    citation: list[tuple[int, Passage]] = []
    others: list[tuple[int, Passage]] = []
    for number, p in enumerate(passages):
        follows = citation and p.kind.startswith("abstract")
        own = follows or (not citation and p.kind in _TITLE)
        (citation if own else others).append((number, p))
    groups = [citation] if citation else []
    groups += [[(number, p)] for number, p in others if p.text.strip()]
    texts = [Text(group) for group in groups]
    starts = _starts(passages, count)
    assigned: list[list[Placed]] = [[] for _ in texts]
    for annotation, passage, sentence in _annotations(document):
        spans = _spans(annotation)
        owner, pieces = _place(spans, texts, starts, passage, sentence, count)
        if texts:
            assigned[owner].append(Placed(annotation, _claim(annotation, spans), pieces))
    return list(zip(texts, assigned, strict=True))


def _counts(document: Any) -> Iterator[Count]:
    parts = [part for p in document["passages"] for part in (p, *(p.get("sentences") or []))]
    text = "".join(part.get("text") or "" for part in parts)
    origins: list[Origin] = ["text", "document", "passage", "sentence", "sentence or passage"]
    return counts_to_try(text, origins)


def _starts(passages: Sequence[Passage], count: Count) -> list[int]:
    """What offsets are counted from in each passage, where they do not count from a sentence."""
    if count.origin in ("text", "sentence"):
        return [p.start for p in passages]
    if count.origin != "document":
        return [0] * len(passages)
    starts, at = [], passages[0].start if passages else 0
    for p in passages:
        starts.append(at)
        at += p.ruler.measure() + 1
    return starts


def _annotations(document: Any) -> Iterator[tuple[Any, int | None, int | None]]:
    """All annotations, each with the passage and the sentence under which it stands, by number."""
    for number, passage in enumerate(document["passages"]):
        for annotation in passage.get("annotations") or []:
            yield annotation, number, None
        for sentence, part in enumerate(passage.get("sentences") or []):
            for annotation in part.get("annotations") or []:
                yield annotation, number, sentence
    for annotation in document.get("annotations") or []:
        yield annotation, None, None


def _spans(annotation: Any) -> list[Span]:
    """An annotation's spans in the document's offsets; none if it has no valid locations."""
    try:
        locations = [(int(p["offset"]), int(p["length"])) for p in annotation["locations"]]
    except (KeyError, TypeError, ValueError):
        return []
    return [Span(start, start + length) for start, length in locations]


def _claim(annotation: Any, spans: list[Span]) -> Claim | None:
    infons = annotation.get("infons") if isinstance(annotation, dict) else None
    kind = infons.get("type") if isinstance(infons, dict) else None
    if not spans or not isinstance(kind, str) or not kind:
        return None
    surface = annotation.get("text")
    return Claim(spans, None if surface in (None, "") else str(surface), kind)


def _place(
    spans: Sequence[Span],
    texts: Sequence[Text],
    starts: Sequence[int],
    number: int | None,
    sentence: int | None,
    count: Count,
) -> tuple[int, list[Span]]:
    """The text in which an annotation lies, by number, and those of its spans that have a place.

    ``number`` and ``sentence`` are the passage and the sentence under which the annotation stands.
    """
    own_passage = count.origin in ("passage", "sentence or passage")
    own_sentence = count.origin in ("sentence", "sentence or passage") and sentence is not None
    for owner, text in enumerate(texts):
        inside = []
        holds = False
        for n, passage, at in text.parts:
            if (own_passage or own_sentence) and n != number:
                continue
            offsets, start = passage.ruler.starts, starts[n]
            if own_sentence and sentence is not None:
                start = offsets[0] - offsets[passage.sentences[sentence]]
            whole = Span(start, start + passage.ruler.measure())
            if own_passage or own_sentence or any(whole.overlaps(s) for s in spans):
                holds = True
            inside.append((passage.ruler, start, at))
        if holds:
            return owner, [p for s in spans if (p := _first(s, inside)) is not None]
    return 0, []


def _first(span: Span, parts: Sequence[tuple[Ruler, int, int]]) -> Span | None:
    """A span in its text's offsets; None if no passage holds all of it."""
    for ruler, start, at in parts:
        if (piece := ruler.place(span.shift(-start))) is not None:
            return piece.shift(at)
    return None


def _wrong(layout: Layout, strictly: bool) -> tuple[int, int]:
    """How many mentions do not stand at their offsets, and how many there are."""
    wrong = mentions = 0
    for text, annotations in layout:
        for _, claim, pieces in annotations:
            if claim is None:
                continue
            mentions += 1
            whole = len(pieces) == len(claim.pieces)
            # A mention that does not say its text must have a place at least.
            wrong += not whole or not agrees(text.text, pieces, claim.surface, strictly)
    return wrong, mentions
