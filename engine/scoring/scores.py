"""Predicted mentions held against gold ones: counts, precision, recall, F1 and their intervals.

Enters: the gold and the predicted mentions of one text after another. Leaves: scores over all, per
corpus and per entity type. Left to others: where mentions come from.

Everything is micro-averaged: counts are summed over texts before anything is divided. So a text
with no mention, gold or predicted, adds nothing; a text that stands twice counts twice. Within a
text a span and type counts once, on either side. Gold mentions may nest, and each counts: what
predicts one of two nested mentions misses the other.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, NamedTuple

import numpy as np

from schemas.spans import Span, TypedSpan

Metric = Literal["exact", "near", "overlap"]

METRICS: tuple[Metric, ...] = ("exact", "near", "overlap")
"""When a predicted mention may stand for a gold one of its type. ``exact``: the same span.
``near``: the two overlap, and each end is off by at most one code point. ``overlap``: they share
at least one code point. In all three each mention stands for at most one of the other side, and
as many as possible do, so ``exact <= near <= overlap``."""

BOOTSTRAP_REPLICATES = 1000
BOOTSTRAP_SEED = 20240401


class Counts(NamedTuple):
    """True positives, false positives, false negatives."""

    tp: int = 0
    fp: int = 0
    fn: int = 0

    def plus(self, other: "Counts") -> "Counts":
        """The sums."""
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    @property
    def gold(self) -> int:
        """How many gold mentions there are."""
        return self.tp + self.fn

    @property
    def predicted(self) -> int:
        """How many predicted mentions there are."""
        return self.tp + self.fp

    @property
    def precision(self) -> float:
        """Share of the predicted mentions that are right; 0 if there are none."""
        return self.tp / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Share of the gold mentions that were found; 0 if there are none."""
        return self.tp / self.gold if self.gold else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 if both are."""
        # In the order in which seqeval computes it, so that the last digit agrees.
        p, r = self.precision, self.recall
        return 2.0 * p * r / (p + r) if p + r else 0.0


@dataclass(frozen=True, slots=True)
class Interval:
    """A percentile interval of the bootstrap."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Score:
    """The counts of one metric. The intervals are 95% ones, null where nothing was resampled."""

    counts: Counts
    precision_interval: Interval | None = None
    recall_interval: Interval | None = None
    f1_interval: Interval | None = None


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """The scores of one corpus and entity type; null stands for all of them.

    ``texts`` have the type annotated, ``documents`` are what they are parts of.
    """

    corpus: str | None
    entity_type: str | None
    texts: int
    documents: int
    scores: dict[Metric, Score]


TypeCounts = dict[str, tuple[Counts, ...]]
"""By entity type, the counts of each of METRICS, in their order."""


def count_text(
    gold: Iterable[TypedSpan], predicted: Iterable[TypedSpan], annotated_types: Collection[str]
) -> TypeCounts:
    """Counts of one text, of every annotated type.

    Mentions of any other type are left out, on both sides: the text's gold says neither yes nor no
    of them.
    """
    sides: tuple[dict[str, set[Span]], dict[str, set[Span]]] = (
        defaultdict(set),
        defaultdict(set),
    )
    for side, mentions in zip(sides, (gold, predicted), strict=True):
        for start, end, kind in mentions:
            side[kind].add(Span(start, end))
    return {kind: _count(*(side.get(kind, set()) for side in sides)) for kind in annotated_types}


def _count(gold: set[Span], predicted: set[Span]) -> tuple[Counts, ...]:
    found = [len(gold & predicted)]
    for agrees in (_near, Span.overlaps):
        # With nothing left over on one side, no matching can be larger.
        whole = found[0] == min(len(gold), len(predicted))
        found.append(found[0] if whole else match(sorted(gold), sorted(predicted), agrees))
    return tuple(Counts(tp, len(predicted) - tp, len(gold) - tp) for tp in found)


def _near(one: Span, other: Span) -> bool:
    return (
        abs(one.start - other.start) <= 1 and abs(one.end - other.end) <= 1 and one.overlaps(other)
    )


def match(
    gold: Sequence[Span], predicted: Sequence[Span], agrees: Callable[[Span, Span], bool]
) -> int:
    """How many pairs of spans that agree there can be at most, each span in one pair at most.

    Both sides ordered; only spans that overlap are asked about. The number does not depend on the
    order in which pairs are made: it is that of a maximum matching, found by augmenting paths.
    """
    reach = list(accumulate((g.end for g in gold), max))
    candidates = [
        [i for i in _overlapping(gold, reach, p) if agrees(gold[i], p)] for p in predicted
    ]
    gold_of: dict[int, int] = {}
    predicted_of: dict[int, int] = {}
    for unpaired in range(len(predicted)):
        reached_by: dict[int, int] = {}
        stack, free = [unpaired], None
        while stack and free is None:
            p = stack.pop()
            for g in candidates[p]:
                if g in reached_by:
                    continue
                reached_by[g] = p
                if g not in predicted_of:
                    free = g
                    break
                stack.append(predicted_of[g])
        while free is not None:  # each on the path lets go of its own for the one it reached
            p = reached_by[free]
            left = gold_of.get(p)
            gold_of[p], predicted_of[free] = free, p
            free = left
    return len(gold_of)


def _overlapping(spans: Sequence[Span], reach: Sequence[int], span: Span) -> Iterator[int]:
    """Indices of those of the ordered ``spans`` that overlap ``span``; ``reach`` is how far the
    spans up to each one go."""
    i = bisect_left(spans, Span(span.end, span.end)) - 1
    while i >= 0 and reach[i] > span.start:
        if spans[i].overlaps(span):
            yield i
        i -= 1


class Tally:
    """The counts of all texts so far, by corpus, document and entity type.

    ``unscored`` counts predicted mentions by type where the corpus does not annotate it.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], dict[str, np.ndarray]] = {}
        self._texts: Counter[tuple[str | None, str | None]] = Counter()
        self.unscored: Counter[str] = Counter()

    def add(
        self,
        corpus: str,
        document: str,
        gold: Iterable[TypedSpan],
        predicted: Collection[TypedSpan],
        annotated_types: Collection[str],
    ) -> None:
        """Count one text, which is ``document`` of ``corpus`` or a part of it."""
        kinds = set(annotated_types)
        self.unscored.update(m.entity_type for m in predicted if m.entity_type not in kinds)
        by_type = self._counts.setdefault((corpus, document), {})
        for kind, counts in count_text(gold, predicted, kinds).items():
            by_type[kind] = by_type.get(kind, 0) + np.array(counts, np.int64)
        for where in (corpus, None):
            self._texts.update((where, kind) for kind in (None, *kinds))

    def rows(
        self, replicates: int = BOOTSTRAP_REPLICATES, seed: int = BOOTSTRAP_SEED
    ) -> list[ScoreRow]:
        """All corpora together, then each: all types together, then each, by name.

        The intervals are of ``replicates`` samples of as many documents with replacement: the
        sentences of one document are alike, and would make them too narrow. With one corpus or
        one type the rows that would repeat others are left out.
        """
        corpora = sorted({corpus for corpus, _ in self._counts})
        rows = []
        for corpus in (None, *corpora) if len(corpora) != 1 else corpora:
            inside = [v for k, v in sorted(self._counts.items()) if corpus in (None, k[0])]
            kinds = sorted({kind for by_type in inside for kind in by_type})
            for kind in (None, *kinds) if len(kinds) != 1 else kinds:
                counts = [
                    sum(by_type.values(), _NOTHING) if kind is None else by_type[kind]
                    for by_type in inside
                    if kind is None or kind in by_type
                ]
                rows.append(
                    ScoreRow(
                        corpus,
                        kind,
                        self._texts[corpus, kind],
                        len(counts),
                        _scores(np.array(counts).reshape(-1, *_NOTHING.shape), replicates, seed),
                    )
                )
        return rows


_NOTHING = np.zeros((len(METRICS), len(Counts._fields)), np.int64)


def _scores(counts: np.ndarray, replicates: int, seed: int) -> dict[Metric, Score]:
    """Scores of documents' counts, one of ``_NOTHING``'s shape for each."""
    totals = counts.sum(axis=0)
    intervals: list[list[Interval | None]] = [[None] * 3] * len(METRICS)
    if len(counts) and replicates:
        tp, fp, fn = np.moveaxis(_resample(counts, replicates, seed), -1, 0)
        # 2 tp / (2 tp + fp + fn) is F1, without the detour by precision and recall.
        shares = [_divide(tp, tp + fp), _divide(tp, tp + fn), _divide(2 * tp, 2 * tp + fp + fn)]
        bounds = np.percentile(np.array(shares), (2.5, 97.5), axis=1)
        intervals = [
            [Interval(float(low), float(high)) for low, high in bounds[:, :, m].T]
            for m in range(len(METRICS))
        ]
    return {
        metric: Score(Counts(*map(int, totals[m])), *intervals[m])
        for m, metric in enumerate(METRICS)
    }


def _resample(counts: np.ndarray, replicates: int, seed: int) -> np.ndarray:
    """Sums over ``replicates`` samples of the documents, with replacement."""
    rng = np.random.default_rng(seed)
    documents = len(counts)
    flat = counts.reshape(documents, -1).astype(np.float64)  # exact, and multiplied by BLAS
    sums = []
    for _ in range(replicates):
        drawn = np.bincount(rng.integers(documents, size=documents), minlength=documents)
        sums.append(drawn @ flat)
    return np.array(sums).reshape(replicates, *counts.shape[1:])


def _divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
