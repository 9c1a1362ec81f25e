"""Rows that wait for a pass over the table: whose they are, and how they go."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from tables import rows

from engine.tables.staging import Staging, newer
from engine.tables.store import Store

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def staged(store: Store, run_id: str, *parts: list[int]) -> Staging:
    staging = Staging(store, run_id)
    for pmids in parts:
        staging.add(rows(pmids, run_id=run_id))
    return staging


def held(staging: Staging, files: list[str]) -> list[int]:
    return sorted(staging.rows(files).to_table(columns=["pmid"])["pmid"].to_pylist())


def test_before_anything_is_staged_there_is_no_table(store: Store) -> None:
    staging = Staging(store, "r")
    assert staging.files() == staging.files(any_run=True) == [] and not len(staging.pmids)
    staging.remove([])
    assert not store.has("staged")


def test_a_run_sees_what_it_has_staged_itself(store: Store) -> None:
    mine, other = staged(store, "a", [3, 1], [2, 3]), staged(store, "b", [7])
    assert mine.pmids.tolist() == [1, 2, 3] and other.pmids.tolist() == [7]
    assert held(mine, mine.files()) == [1, 2, 3, 3]
    assert held(mine, mine.files(any_run=True)) == [1, 2, 3, 3, 7]
    assert store.dataset().count_rows() == 0  # no reader of the table sees them


def test_another_process_finds_the_files_of_a_run_but_not_its_pmids(store: Store) -> None:
    staged(store, "a", [1])
    again = Staging(store, "a")
    assert held(again, again.files()) == [1] and not len(again.pmids)


def test_what_is_removed_is_gone_and_nothing_else(store: Store) -> None:
    mine, other = staged(store, "a", [1], [2]), staged(store, "b", [7])
    first, second = mine.files()
    mine.remove([first, "never-there.parquet"])
    assert mine.files() == [second] and not len(mine.pmids)
    mine.remove([first])  # once more: another process was faster
    assert held(other, other.files(any_run=True)) == sorted([*held(mine, [second]), 7])


def test_removing_goes_on_when_another_writer_is_faster(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = staged(store, "a", [1])
    transact, late = DeltaTable.create_write_transaction, [True]

    def be_late(self: DeltaTable, *args: Any, **kwargs: Any) -> None:
        if late:
            late.clear()
            staged(store, "b", [7])
        transact(self, *args, **kwargs)

    monkeypatch.setattr(DeltaTable, "create_write_transaction", be_late)
    mine.remove(mine.files())
    assert mine.files() == [] and held(mine, mine.files(any_run=True)) == [7]


def test_what_cannot_be_removed_stays_for_the_next_run(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = staged(store, "a", [1])

    def fail(*args: Any, **kwargs: Any) -> None:
        raise CommitFailedError("others are always faster")

    with monkeypatch.context() as patched:
        patched.setattr(DeltaTable, "create_write_transaction", fail)
        mine.remove(mine.files())
    assert held(mine, mine.files()) == [1]


def keys(times: dict[int, datetime | None]) -> pa.Table:
    return pa.table({
        "pmid": pa.array(times, pa.int64()),
        "annotated_at": pa.array(times.values(), pa.timestamp("us", "UTC")),
    })  # fmt: skip


def test_newer_is_what_the_table_lacks_or_has_an_older_row_of() -> None:
    hour = timedelta(hours=1)
    stored = keys({1: NOW, 2: NOW, 3: NOW, 4: None})
    waiting = keys({1: NOW + hour, 2: NOW - hour, 3: NOW, 4: NOW, 5: NOW})
    assert newer(waiting, stored).tolist() == [1, 4, 5]
    assert newer(waiting, keys({})).tolist() == [1, 2, 3, 4, 5]
    assert newer(keys({}), stored).tolist() == [] and newer(keys({}), stored).dtype == np.int64
