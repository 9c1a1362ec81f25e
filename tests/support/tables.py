"""Rows of the annotations table, and ways to put them there without a job."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties

from engine.tables.layout.files import NO_PMIDS
from engine.tables.layout.rewrite import Rewrite
from engine.tables.layout.writer import write_rows
from engine.tables.store import Store
from schemas.annotations import ANNOTATIONS_SCHEMA


def rows(pmids: Any, text: str = "x", **values: Any) -> pa.Table:
    made = [
        {
            "pmid": int(p), "version": 1, "text": f"{text} {p}", "text_digest": b"0" * 16,
            "sentences": [{"start": 0, "end": 1}], "annotator": "a", "run_id": "r",
            "mentions": [{"start": 0, "end": 1, "text": "x", "entity_type": "gene"}],
            "annotated_at": datetime.now(UTC), "source": "s", "publication_types": ["p"],
        } | values
        for p in pmids
    ]  # fmt: skip
    return pa.Table.from_pylist(made, schema=ANNOTATIONS_SCHEMA)


def put(store: Store, done: Rewrite, run_id: str | None = None, new: int = 0) -> None:
    """Take over files; ``run_id`` and how many rows are ``new`` stand in the log, as a run's do."""
    table = store.load()
    notes = {"pubmark.run_id": run_id, "pubmark.new": str(new)} if run_id else None
    table.create_write_transaction(
        done.actions(True), mode="append", schema=table.schema(),
        commit_properties=CommitProperties(custom_metadata=notes),
    )  # fmt: skip


def fill(store: Store, *parts: Any, run_id: str | None = None) -> None:
    """Append rows of some PMIDs, each part in a commit of its own."""
    for pmids in parts:
        made = write_rows(store.load(), rows(sorted(pmids)))
        put(store, Rewrite(made, [], NO_PMIDS), run_id, len(pmids))


def texts(store: Store) -> dict[int, str]:
    table = store.load().to_pyarrow_table(columns=["pmid", "text"])
    found = dict(zip(table["pmid"].to_pylist(), table["text"].to_pylist(), strict=True))
    assert len(found) == len(table), "a PMID stands twice"
    return found
