"""Compacting beside writers, and what vacuum deletes."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from small_files import make_small
from tables import fill, rows, texts

from engine.planning.settled import settled_pmids
from engine.tables import maintenance
from engine.tables.committer import Committer
from engine.tables.layout import gathering
from engine.tables.layout.files import NO_PMIDS, stored_files
from engine.tables.layout.writer import write_rows
from engine.tables.maintenance import compact, gather, vacuum
from engine.tables.store import Store
from engine.tables.transactions import Transactions


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch, ROWS_PER_FILE=10)


def committer(store: Store, present: Any = NO_PMIDS) -> Committer:
    return Committer(store.load(), np.array(present, np.int64), settled_pmids)


def newer(pmids: Any) -> pa.Table:
    return rows(pmids, "new", text_digest=b"1" * 16)


def files(store: Store) -> set[str]:
    return {f.path for f in stored_files(store.load())}


def parquet(store: Store) -> set[str]:
    return {p.name for p in Path(store.uri("annotations")).glob("*.parquet")}


def test_compacting_goes_well_with_a_writer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, [1], [3], [2])
    transact, others = Transactions.transact, [rows([9])]

    def be_late(self: Transactions, *args: Any) -> int:
        if others:
            committer(store).commit(others.pop())
        return transact(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(Transactions, "transact", be_late)
        assert compact(store, "r") == (5, 2)
    assert sorted(texts(store)) == [1, 2, 3, 9] and len(files(store)) == 1


def test_vacuum_deletes_orphans_and_what_was_replaced_but_nothing_young(store: Store) -> None:
    fill(store, range(10))
    committer(store, range(8)).commit(newer(range(8)))
    write_rows(store.load(), rows([77]))  # and then it crashed
    assert len(parquet(store)) == 3
    assert vacuum(store, 1)["annotations"] == 0
    for path in Path(store.uri("annotations")).glob("*.parquet"):
        os.utime(path, (time.time() - 7200,) * 2)
    assert vacuum(store, 1)["annotations"] == 1  # replaced a moment ago: it stays
    assert len(parquet(store)) == 2 and len(texts(store)) == 10


def note(store: Store, *names: str) -> None:
    """A row of ``files`` and one of ``runs`` for each name, in commits of their own."""
    for number, name in enumerate(names):
        row = {"name": name, "md5": "0", "pmids": list(range(number)), "deleted": []}
        store.append("files", [row])
        store.append("runs", [{"run_id": name, "errors": [("x", number)]}])


def sorted_rows(store: Store, table: str, key: str) -> list[dict[str, Any]]:
    return sorted(store.read(table), key=lambda r: r[key])


def test_companion_tables_are_compacted_too(store: Store) -> None:
    note(store, *"abcdef")
    before = [sorted_rows(store, n, k) for n, k in (("files", "name"), ("runs", "run_id"))]
    assert len(stored_files(store.load("files"))) == 6
    compact(store, "r")
    assert [len(stored_files(store.load(n))) for n in ("files", "runs")] == [1, 1]
    assert before == [sorted_rows(store, n, k) for n, k in (("files", "name"), ("runs", "run_id"))]
    version = store.load("runs").version()
    compact(store, "r")
    assert store.load("runs").version() == version  # there was nothing to do
    note(store, "g")
    compact(store, "r")
    assert len(store.read("files")) == 7 and len(stored_files(store.load("files"))) == 1


def test_large_files_of_a_companion_are_left_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(store, *"abcdef")
    size = max(f.size for f in stored_files(store.load("files")))
    monkeypatch.setattr(gathering, "_LARGE_BYTES", 2 * size)
    assert gather(store, "files") > 6  # some were put together twice
    files = stored_files(store.load("files"))
    assert sum(f.size < 2 * size for f in files) < 2 and len(store.read("files")) == 6


def test_a_companion_is_compacted_beside_writers(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(store, "a", "b")
    others = ["c", "d"]

    def be_late(table: DeltaTable) -> Any:
        done = gathering.gather_once(table)
        if others:
            note(store, others.pop())
        return done

    monkeypatch.setattr(maintenance, "gather_once", be_late)
    assert gather(store, "runs") == 4
    assert sorted(r["run_id"] for r in store.read("runs")) == ["a", "b", "c", "d"]
    held = {f.path for f in stored_files(store.load("runs"))}
    assert len(held) == 1


def test_a_companion_keeps_what_another_program_added(store: Store) -> None:
    note(store, "a")
    made = pa.table({"run_id": ["b"], "cost": [1.5]})
    write_deltalake(store.uri("runs"), made, mode="append", schema_mode="merge")
    gather(store, "runs")
    assert {r["run_id"]: r["cost"] for r in store.read("runs")} == {"a": None, "b": 1.5}


def test_large_rows_are_read_group_by_group(store: Store) -> None:
    row = {"md5": "0", "pmids": list(range(200_000)), "deleted": []}
    store.append("files", [row | {"name": str(i)} for i in range(30)])
    (file,) = stored_files(store.load("files"))
    parquet = pq.ParquetFile(Path(store.uri("files")) / file.path)
    assert parquet.num_row_groups >= 3
    assert len(store.read("files", ["name", "pmids"])[0]["pmids"]) == 200_000
