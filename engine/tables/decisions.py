"""What gates have decided: may one annotator's rows be made anew by another?

Enters: the store. Leaves: rows of ``rollouts``. A decision is kept with the digest of its question,
so that none is asked twice: a refused checkpoint costs model time once, until it, the limits or the
gold corpora change. Left to others: asking (refresh/gate.py).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from engine.tables.store import Store

Answer = Literal["accepted", "refused"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a gate decided, and why."""

    annotator: str
    answer: Answer
    reasons: list[str]


def decided(store: Store, gate: str) -> Decision | None:
    """What was decided on a question; None if it was never asked."""
    decisions = [d for d in store.read("rollouts") if d["gate"] == gate]
    if not decisions:
        return None
    last = max(decisions, key=lambda d: d["decided_at"])
    return Decision(last["annotator"], last["decision"], last["reasons"] or [])


def decide(
    store: Store,
    annotator: str,
    against: str | None,
    gate: str,
    reasons: Sequence[str],
    report: dict[str, Any],
    run_id: str,
) -> Decision:
    """Write down a decision: refused if there are reasons."""
    answer: Answer = "refused" if reasons else "accepted"
    row = {
        "annotator": annotator,
        "against": against,
        "decision": answer,
        "decided_at": datetime.now(UTC),
        "run_id": run_id,
        "gate": gate,
        "reasons": list(reasons),
        "report": json.dumps(report, ensure_ascii=False),
    }
    store.append("rollouts", [row])
    return Decision(annotator, answer, list(reasons))
