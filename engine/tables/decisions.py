"""Which annotator a table's rows are of, which may take its place, and how far that has come.

Enters: the store. Leaves: annotators as far as they can still be run, decisions of the gate, and
counts. A decision is kept with the digest of its question, so that none is asked twice: a refused
checkpoint costs model time once, until it, the limits or the gold corpora change.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from deltalake import DeltaTable

from engine.checkpoints.load import load_checkpoint
from engine.steps.annotator import Annotator, make_annotator
from engine.tables.rows import count_annotators
from engine.tables.store import Store, open_dataset
from schemas.errors import UsageError

Answer = Literal["accepted", "refused"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a gate decided, and why."""

    annotator: str
    answer: Answer
    reasons: list[str]


@dataclass(frozen=True, slots=True)
class Progress:
    """How many of a table's rows are of the annotator that they are to be of."""

    annotator: str
    done: int
    rows: int


def current_annotator(store: Store, counts: Counter[str]) -> str | None:
    """The annotator of a table with so many rows of each: the last that was rolled out and has
    some, else the one of most rows; None if there are none."""
    decisions = _decisions(store)
    accepted = [d for d in decisions if d["decision"] == "accepted" and counts[d["annotator"]]]
    if accepted:
        last: str = max(accepted, key=lambda d: d["decided_at"])["annotator"]
        return last
    return max(counts, key=lambda a: (counts[a], a)) if counts else None


def restore_annotator(store: Store, fingerprint: str, checkpoint: str | None = None) -> Annotator:
    """An annotator of the table's, to be run again; ``checkpoint`` says where, if not where it was.

    Raises:
        UsageError: if its checkpoint is not there any more, or is another one now.
    """
    known = open_dataset(store.load("annotators")).to_table().to_pylist()
    row = next((r for r in known if r["annotator"] == fingerprint), None)
    if row is None:
        raise UsageError(f"{store.root}: nothing is known of its annotator {fingerprint}")
    made = load_checkpoint(checkpoint or row["checkpoint"])
    annotator = make_annotator(made, made.manifest.task.only(row["entity_types"]))
    if annotator.fingerprint != fingerprint:
        raise UsageError(
            f"checkpoint {made.ref}: is annotator {annotator.fingerprint} now, not {fingerprint} "
            f"of {store.root}: its weights, its task or pubmark's own rules have changed since"
        )
    return annotator


def question(annotator: str, against: str | None, asked: dict[str, Any]) -> str:
    """The digest of what a gate is asked: of both annotators, and of all that matters beside."""
    text = json.dumps([annotator, against, asked], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def decided(store: Store, gate: str) -> Decision | None:
    """What was decided on a question; None if it was never asked."""
    found = [d for d in _decisions(store) if d["gate"] == gate]
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


def progress(table: DeltaTable, annotator: str) -> Progress:
    """How far a table has come with an annotator."""
    counts = count_annotators(table)
    return Progress(annotator, counts[annotator], counts.total())


def _decisions(store: Store) -> list[dict[str, Any]]:
    if not store.has("rollouts"):
        return []
    rows: list[dict[str, Any]] = open_dataset(store.load("rollouts")).to_table().to_pylist()
    return rows
