"""The gate: may a new annotator take over a table?

Enters: the candidate, the table's annotator, the config's limits. Leaves: a decision, which is kept
in the table ``rollouts`` with what was measured. Left to others: the trial itself
(scoring/trial.py), and what a refusal means for a turn (turn.py).

A decision is kept with the digest of its question, so that each question is tried once: a refused
checkpoint costs no model time again until it, the limits or the gold corpora change.
"""

import hashlib
import json
import logging
from typing import Any

from engine.refresh.pending import md5_of
from engine.runs.figures import Reporter
from engine.scoring.comparison import Comparison
from engine.scoring.gold import read_gold
from engine.sources.shards import find_shards
from engine.steps.annotator import Annotator
from engine.tables.annotators import restore_annotator
from engine.tables.decisions import Decision, decide, decided
from engine.tables.rows import no_citations, sample
from engine.tables.store import Store
from schemas.configs.options import EngineOptions
from schemas.configs.refresh import GateLimits, GatePart
from schemas.errors import JobError, UsageError

logger = logging.getLogger(__name__)


class Gate:
    """One question: may ``candidate`` take the place of the table's annotator?

    ``current`` is the fingerprint of that annotator, None if the table has no rows. With no
    ``part`` of the config nothing is asked. ``decision`` is the answer, also one of an earlier
    turn; ``comparison`` is what was measured in this turn.
    """

    def __init__(
        self, part: GatePart | None, store: Store, candidate: Annotator, current: str | None
    ):
        self._part, self._store = part, store
        self._candidate, self._current = candidate, current
        self._question = self._ask()
        self.decision: Decision | None = decided(store, self._question) if self._question else None
        self.comparison: Comparison | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a question, and it has not been answered."""
        return self._question is not None and self.decision is None

    @property
    def refusal(self) -> str | None:
        """That the candidate is refused, and why, in words; None if it is not refused."""
        if self.decision is None or self.decision.answer != "refused":
            return None
        reasons = "; ".join(self.decision.reasons)
        return f"checkpoint {self._candidate.checkpoint.ref} is refused: {reasons}"

    def decide(self, options: EngineOptions, reporter: Reporter, run_id: str) -> list[str]:
        """Try the candidate on the connected cluster, and store what is decided.

        Gives problems that did not prevent the decision, in words.

        Raises:
            JobError: if the engines failed.
        """
        # Only now: Ray takes seconds to load.
        from ray.exceptions import RayError

        from engine.runs.cluster import describe_failure
        from engine.scoring.trial import measure

        part, problems = self._part, list[str]()
        assert part is not None and self._question is not None
        gold = read_gold(part.corpora, part.split, part.limit) if part.corpora else []
        citations, old = no_citations(), None
        if self._current is not None:
            citations = sample(self._store.load(), self._current, part.sample, part.seed)
            try:
                old = restore_annotator(self._store, self._current, part.old_checkpoint)
            except UsageError as e:
                problems.append(f"gate: without the old checkpoint no noise is known: {e}")
        logger.info(
            "trying %s on %d citations and %d gold texts",
            self._candidate.checkpoint.ref, len(citations), len(gold),
        )  # fmt: skip
        try:
            measured = measure(old, self._candidate, citations, gold, options, reporter)
        except RayError as e:
            raise JobError(f"gate: {describe_failure(e)}") from e
        self.comparison = measured
        self.decision = decide(
            self._store,
            self._candidate.fingerprint,
            self._current,
            self._question,
            judge(measured, part.limits),
            measured.summary(),
            run_id,
        )
        return problems

    def _ask(self) -> str | None:
        """The digest of the question; None if there is none to ask."""
        part = self._part
        if part is None or self._candidate.fingerprint == self._current:
            return None
        if self._current is None and not part.corpora:
            return None  # there is nothing to compare it with
        asked = part.model_dump(mode="json", exclude={"old_checkpoint"})
        asked["corpora"] = [md5_of(s) for s in find_shards(part.corpora)]
        return question(self._candidate.fingerprint, self._current, asked)


def question(annotator: str, against: str | None, asked: dict[str, Any]) -> str:
    """The digest of a question: of both annotators, and of ``asked``, the limits and texts.

    Digests are stored in ``rollouts``: if this changed, every question would be asked again.
    """
    text = json.dumps([annotator, against, asked], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def judge(comparison: Comparison, limits: GateLimits) -> list[str]:
    """The reasons, with numbers, why the new annotator may not take over; none if it may.

    What is not a number is no evidence for it: each limit must be kept, not merely not broken.
    """
    reasons = []
    new, old = comparison.new, comparison.old
    total = next((s for s in new.scores if s.entity_type is None), None)
    if total is not None and not total.gold and limits.min_f1 > 0:
        reasons.append(f"gold has no mention, F1 of at least {limits.min_f1:.4f} is asked for")
    elif total is not None and not total.f1 >= limits.min_f1:
        reasons.append(f"F1 on gold {total.f1:.4f}, at least {limits.min_f1:.4f} is asked for")
    for score in new.scores:
        former = old.f1(score.entity_type) if old else None
        if former is not None and not former - score.f1 <= limits.max_f1_drop:
            kind = score.entity_type or "all types"
            reasons.append(
                f"{kind}: F1 on gold falls from {former:.4f} to {score.f1:.4f}, by more than "
                f"{limits.max_f1_drop:g}"
            )
    for row in comparison.changes:
        if row.before < limits.min_mentions:
            continue
        for what in ("lost", "added", "moved"):
            share, limit = row.beyond_noise(what), getattr(limits, f"max_{what}")
            if not share <= limit:
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
