"""Two annotators' mentions of the same citations compared: what was added, lost and moved.

Enters: mentions by PMID, of the first annotator and the second, and of a second run of the first.
Leaves: counts by entity type. Left to others: annotating (trial.py), and deciding what the counts
mean (engine/refresh/gate.py).

A mention that only one side has counts as *moved* if the other side has one of the same type that
overlaps it and is not matched with a third; otherwise it is *added* or *lost*.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from engine.scoring.scores import METRICS, count_text
from schemas.spans import TypedSpan

Mentions = Mapping[int, Collection[TypedSpan]]
"""By PMID."""


class Difference(NamedTuple):
    """How many mentions both sides have (``same``), have with other spans (``moved``), only the
    second has (``added``), or only the first has (``lost``)."""

    same: int = 0
    moved: int = 0
    added: int = 0
    lost: int = 0

    def plus(self, other: "Difference") -> "Difference":
        """The sums."""
        return Difference(*(a + b for a, b in zip(self, other, strict=True)))


@dataclass(frozen=True, slots=True)
class TypeChange:
    """What changed for one entity type (None: all types together). ``noise`` is what changed
    between two runs of the first annotator; None if it was not run twice."""

    entity_type: str | None
    change: Difference
    noise: Difference | None

    @property
    def before(self) -> int:
        """How many mentions the first annotator has."""
        return self.change.same + self.change.moved + self.change.lost

    @property
    def after(self) -> int:
        """How many mentions the second annotator has."""
        return self.change.same + self.change.moved + self.change.added

    def beyond_noise(self, what: str) -> float:
        """The count named ``what`` (moved, added or lost) less its noise, as a share of the first
        annotator's mentions; never negative."""
        noise = getattr(self.noise, what) if self.noise else 0
        return max(0, getattr(self.change, what) - noise) / max(1, self.before)

    def summary(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "entity_type": self.entity_type,
            "before": self.before,
            "after": self.after,
            **self.change._asdict(),
            "noise": self.noise._asdict() if self.noise else None,
        }


def compare(
    before: Mentions, after: Mentions, again: Mentions | None, entity_types: Iterable[str]
) -> list[TypeChange]:
    """The changes of all types together, then of each, over the PMIDs of ``before``."""
    kinds = list(entity_types)
    change = differences(before, after, kinds)
    noise = differences(before, again, kinds) if again is not None else None
    rows = [TypeChange(k, change[k], noise[k] if noise else None) for k in kinds]
    total = TypeChange(
        None, _sum(change.values()), _sum(noise.values()) if noise is not None else None
    )
    return [total, *rows]


def differences(
    before: Mentions, after: Mentions, entity_types: Collection[str]
) -> dict[str, Difference]:
    """The differences by entity type, over the PMIDs of ``before``."""
    totals = dict.fromkeys(entity_types, Difference())
    exact, overlap = METRICS.index("exact"), METRICS.index("overlap")
    for pmid, mentions in before.items():
        for kind, counts in count_text(mentions, after.get(pmid, ()), entity_types).items():
            same, paired = counts[exact].tp, counts[overlap]
            difference = Difference(same, paired.tp - same, paired.fp, paired.fn)
            totals[kind] = totals[kind].plus(difference)
    return totals


def _sum(values: Iterable[Difference]) -> Difference:
    total = Difference()
    for value in values:
        total = total.plus(value)
    return total


@dataclass(frozen=True, slots=True)
class GoldScore:
    """Exact precision, recall and F1 on gold texts, each in [0, 1], of one entity type (None: all
    types), and the bounds of F1's 95% interval. ``gold`` counts the gold mentions."""

    entity_type: str | None
    gold: int
    precision: float
    recall: float
    f1: float
    f1_interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """One of two annotators: its checkpoint's name, its fingerprint and its scores. ``failed`` of
    ``texts`` texts failed, wholly or in part."""

    name: str
    annotator: str
    texts: int = 0
    failed: int = 0
    scores: tuple[GoldScore, ...] = ()

    def f1(self, entity_type: str | None) -> float | None:
        """F1 of an entity type (None: all types), in whatever case its name is; None where it was
        not scored."""
        named = [(s.entity_type and s.entity_type.casefold(), s.f1) for s in self.scores]
        wanted = entity_type and entity_type.casefold()
        return next((f1 for name, f1 in named if name == wanted), None)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two annotators over the same citations. ``old`` is None where there is no old annotator, or
    where it can no longer be run."""

    old: Side | None
    new: Side
    citations: int
    changes: tuple[TypeChange, ...] = ()

    def summary(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "old": asdict(self.old) if self.old else None,
            "new": asdict(self.new),
            "citations": self.citations,
            "changes": [c.summary() for c in self.changes],
        }


def to_markdown(comparison: Comparison) -> str:
    """The comparison as Markdown tables."""
    lines = []
    if comparison.new.scores:
        lines += ["| gold | old F1 | new F1 | 95% |", "|---|---:|---:|---:|"]
        for score in comparison.new.scores:
            former = comparison.old.f1(score.entity_type) if comparison.old else None
            bounds = score.f1_interval
            lines.append(
                f"| {score.entity_type or 'all'} | {_percent(former)} | {_percent(score.f1)} | "
                + (f"{100 * bounds[0]:.2f}–{100 * bounds[1]:.2f} |" if bounds else " |")
            )
        lines.append("")
    if comparison.changes:
        lines += [
            "| type | old | new | same | moved (noise) | added (noise) | lost (noise) |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        for row in comparison.changes:
            cells = [row.entity_type or "all", f"{row.before:,}", f"{row.after:,}"]
            cells.append(f"{row.change.same:,}")
            for what in ("moved", "added", "lost"):
                noise = f"{getattr(row.noise, what):,}" if row.noise else "–"
                cells.append(f"{getattr(row.change, what):,} ({noise})")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines).rstrip()


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f}"
