"""May a new annotator take over a table: what is asked, how it is judged, what was decided."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from engine.scoring.comparison import Comparison


def question(annotator: str, against: str | None, asked: dict[str, Any]) -> str:
    """The digest of what a gate is asked: of both annotators, and of all that matters beside."""
    text = json.dumps([annotator, against, asked], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Limits:
    """What a new annotator may change. Shares are of the old one's mentions of a type, beyond the
    noise; types of fewer than ``min_mentions`` are not judged by them. F1 is in [0, 1]."""

    min_f1: float
    max_f1_drop: float
    max_lost: float
    max_added: float
    max_moved: float
    max_failed: float
    min_mentions: int


def judge(found: Comparison, limits: Limits) -> list[str]:
    """Why the new annotator may not take the old one's place, with the numbers; none if it may."""
    reasons = []
    new, old = found.new, found.old
    f1 = new.f1(None)
    if f1 is not None and f1 < limits.min_f1:
        reasons.append(f"F1 on gold {f1:.4f}, at least {limits.min_f1:.4f} is asked for")
    for score in new.scores:
        former = old.f1(score.entity_type) if old else None
        if former is not None and former - score.f1 > limits.max_f1_drop:
            kind = score.entity_type or "all types"
            reasons.append(
                f"{kind}: F1 on gold falls from {former:.4f} to {score.f1:.4f}, by more than "
                f"{limits.max_f1_drop:g}"
            )
    for row in found.changes:
        if row.before < limits.min_mentions:
            continue
        for what in ("lost", "added", "moved"):
            share, limit = row.beyond_noise(what), getattr(limits, f"max_{what}")
            if share > limit:
                noise = getattr(row.noise, what) if row.noise else 0
                reasons.append(
                    f"{row.entity_type or 'all types'}: {getattr(row.change, what):,} of "
                    f"{row.before:,} mentions {what} ({noise:,} by noise), {share:.1%} beyond "
                    f"noise, at most {limit:.1%} is allowed"
                )
    if new.failed > limits.max_failed * max(1, new.texts):
        reasons.append(
            f"{new.failed:,} of {new.texts:,} texts failed, at most {limits.max_failed:.1%} may"
        )
    return reasons
