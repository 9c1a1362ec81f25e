"""Which annotators have rows in a table, what they stand for, and which one is the table's.

Enters: the store. Leaves: the rows of ``annotators``, annotators that can be run again, and whether
a task may be written to a table. Left to others: which annotator a table is to be of (the gate).
"""

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from deltalake import DeltaTable

from engine.steps.annotator import Annotator, annotator_of
from engine.tables.reading import annotators_of
from engine.tables.store import Store
from schemas.credentials import without_credentials
from schemas.errors import UsageError


def introduce(store: Store, annotator: Annotator, run_id: str) -> None:
    """Say in ``annotators`` what the fingerprint stands for, if it is not there yet.

    Of the checkpoint's URI what is stored says where it is, and holds no credentials: who makes its
    rows anew has their own, in the environment or with ``--checkpoint``.
    """
    known = {row["annotator"] for row in store.read("annotators", ["annotator"])}
    if annotator.fingerprint not in known:
        store.append(
            "annotators",
            [
                {
                    "annotator": annotator.fingerprint,
                    "checkpoint": without_credentials(annotator.checkpoint.ref),
                    "name": annotator.checkpoint.manifest.name,
                    "entity_types": list(annotator.task.entity_types),
                    "parts": json.dumps(annotator.parts, ensure_ascii=False),
                    "first_run_id": run_id,
                    "first_used_at": datetime.now(UTC),
                }
            ],
        )


def refuse_other_task(store: Store, annotator: Annotator, table: DeltaTable | None = None) -> None:
    """A table has one task at a time: other entity types than its own need --force."""
    for types in tasks_of(store, table).values():
        if types != set(annotator.task.entity_types):
            raise UsageError(
                f"target {store.root}: holds annotations of {', '.join(sorted(types))}, not "
                f"{', '.join(annotator.task.entity_types)}; another target, or --force to replace"
            )


def tasks_of(store: Store, table: DeltaTable | None = None) -> dict[str, set[str]]:
    """The annotators that have rows in the table, also staged ones, and their entity types."""
    used = annotators_of(store.load() if table is None else table)
    if staged := store.find("staged"):
        used |= annotators_of(staged)
    return {
        row["annotator"]: set(row["entity_types"])
        for row in store.read("annotators", ["annotator", "entity_types"])
        if row["annotator"] in used
    }


def entity_types_of(store: Store, fingerprint: str) -> list[str]:
    """The entity types of an annotator of the table's.

    Raises:
        UsageError: if nothing is known of it.
    """
    types: list[str] = _row_of(store, fingerprint)["entity_types"]
    return types


def current_annotator(store: Store, counts: Counter[str]) -> str | None:
    """The annotator of a table with so many rows of each: the last that was rolled out and has
    some, else the one of most rows; None if there are none."""
    decisions = store.read("rollouts")
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
    row = _row_of(store, fingerprint)
    serving = json.loads(row["parts"] or "{}").get("engine_args")
    annotator = annotator_of(checkpoint or row["checkpoint"], row["entity_types"], serving)
    if annotator.fingerprint != fingerprint:
        raise UsageError(
            f"checkpoint {annotator.checkpoint.ref}: is annotator {annotator.fingerprint} "
            f"now, not {fingerprint} "
            f"of {store.root}: its weights, its task or pubmark's own rules have changed since"
        )
    return annotator


def _row_of(store: Store, fingerprint: str) -> dict[str, Any]:
    row = next((r for r in store.read("annotators") if r["annotator"] == fingerprint), None)
    if row is None:
        raise UsageError(f"{store.root}: nothing is known of its annotator {fingerprint}")
    return row
