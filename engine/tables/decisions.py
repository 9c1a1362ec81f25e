"""Which annotator a table's rows are of, which may take its place, and how far that has come.

Enters: the store. Leaves: annotators as far as they can still be run, decisions of the gate, and
counts. A decision is kept with the digest of its question, so that none is asked twice: a refused
checkpoint costs model time once, until it, the limits or the gold corpora change.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from engine.tables.reading import open_dataset
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
    found = [d for d in read_decisions(store) if d["gate"] == gate]
    if not found:
        return None
    last = max(found, key=lambda d: d["decided_at"])
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


def read_decisions(store: Store) -> list[dict[str, Any]]:
    """All rows of ``rollouts``, in no order."""
    if not store.has("rollouts"):
        return []
    rows: list[dict[str, Any]] = open_dataset(store.load("rollouts")).to_table().to_pylist()
    return rows
