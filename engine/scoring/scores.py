"""Predicted mentions scored against gold ones: counts, precision, recall, F1 and their intervals.

Enters: the gold and the predicted mentions of one text after another. Leaves: scores over all
texts, per corpus and per entity type. Left to others: making predictions, and showing scores.

All scores are micro-averaged: counts are summed over texts before anything is divided. So a text
with no mention, gold or predicted, adds nothing, and a text that occurs twice counts twice. Within
a text, each pair of span and type counts once on either side. Gold mentions may nest, and each
counts: a prediction that has only one of two nested mentions misses the other.
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
"""When a predicted mention matches a gold one of its type. ``exact``: the spans are the same.
``near``: the spans overlap, and each end is off by at most one code point. ``overlap``: they share
at least one code point. In all three a mention matches at most one of the other side, and as many
as possible are matched, so the counts of true positives are exact <= near <= overlap."""

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
        """Share of the gold mentions that were predicted; 0 if there are none."""
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
    """The counts of one metric, and 95% intervals, which are null where nothing was resampled."""

    counts: Counts
    precision_interval: Interval | None = None
    recall_interval: Interval | None = None
    f1_interval: Interval | None = None


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """The scores of one corpus and one entity type; null stands for all corpora, or all types.

    ``texts`` counts the texts that are annotated with the type, ``documents`` the documents that
    these are parts of.
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
    """The counts of one text, for every annotated type.

    Mentions of any other type are left out on both sides: for them, the text has no gold.
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
    exact = len(gold & predicted)
    matches = [exact]
    for agrees in (_near, Span.overlaps):
        # Where the exact matches use up one side, no matching can be larger.
        largest = exact == min(len(gold), len(predicted))
        matches.append(exact if largest else match(sorted(gold), sorted(predicted), agrees))
    return tuple(Counts(tp, len(predicted) - tp, len(gold) - tp) for tp in matches)


def _near(one: Span, other: Span) -> bool:
    return (
        abs(one.start - other.start) <= 1 and abs(one.end - other.end) <= 1 and one.overlaps(other)
    )


def match(
    gold: Sequence[Span], predicted: Sequence[Span], agrees: Callable[[Span, Span], bool]
) -> int:
    """The size of a maximum matching between two lists of spans, found by augmenting paths.

    Each span is in at most one pair. A pair must overlap, and ``agrees(gold, predicted)`` must hold
    for it. Both lists must be ordered.
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
        while free is not None:  # back along the path, each takes what it reached
            p = reached_by[free]
            previous = gold_of.get(p)
            gold_of[p], predicted_of[free] = free, p
            free = previous
    return len(gold_of)


def _overlapping(spans: Sequence[Span], reach: Sequence[int], span: Span) -> Iterator[int]:
    """Indices of the ordered ``spans`` that overlap ``span``; ``reach[i]`` is the largest end among
    the spans up to ``i``."""
    i = bisect_left(spans, Span(span.end, span.end)) - 1
    while i >= 0 and reach[i] > span.start:
        if spans[i].overlaps(span):
            yield i
        i -= 1


class Tally:
    """The counts of all texts so far, by corpus, document and entity type.

    ``unscored`` counts, by type, predicted mentions of types that their corpus does not annotate.
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
        """Count one text, which is the whole or a part of ``document`` of ``corpus``."""
        kinds = set(annotated_types)
        self.unscored.update(m.entity_type for m in predicted if m.entity_type not in kinds)
        by_type = self._counts.setdefault((corpus, document), {})
        for kind, counts in count_text(gold, predicted, kinds).items():
            by_type[kind] = by_type.get(kind, 0) + np.array(counts, np.int64)
        for scope in (corpus, None):
            self._texts.update((scope, kind) for kind in (None, *kinds))

    def rows(
        self, replicates: int = BOOTSTRAP_REPLICATES, seed: int = BOOTSTRAP_SEED
    ) -> list[ScoreRow]:
        """Scores of all corpora together, then of each: all types together, then each type.

        Corpora and types are ordered by name. With one corpus, or one type, the rows that would
        repeat others are left out. Intervals come from ``replicates`` bootstrap samples of whole
        documents: samples of sentences would make them too narrow, since the sentences of one
        document are alike.
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
    """Scores from the documents' counts, an array [documents, metrics, (tp, fp, fn)]."""
    totals = counts.sum(axis=0)
    intervals: list[list[Interval | None]] = [[None] * 3] * len(METRICS)
    if len(counts) and replicates:
        tp, fp, fn = np.moveaxis(_resample(counts, replicates, seed), -1, 0)
        # 2 tp / (2 tp + fp + fn) is F1, straight from the counts.
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
    """Sums of counts over each of ``replicates`` samples of the documents, with replacement."""
    rng = np.random.default_rng(seed)
    documents = len(counts)
    # Floats hold the counts exactly, and BLAS multiplies them.
    flat = counts.reshape(documents, -1).astype(np.float64)
    sums = []
    for _ in range(replicates):
        drawn = np.bincount(rng.integers(documents, size=documents), minlength=documents)
        sums.append(drawn @ flat)
    return np.array(sums).reshape(replicates, *counts.shape[1:])


def _divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
