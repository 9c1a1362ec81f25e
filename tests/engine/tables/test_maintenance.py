"""Compacting beside writers, and what vacuum deletes."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from small_files import make_small
from tables import fill, rows, texts

from engine.planning.settled import settled_pmids
from engine.tables.committer import Committer
from engine.tables.layout.files import NO_PMIDS, stored_files
from engine.tables.layout.writer import write_rows
from engine.tables.maintenance import compact, vacuum
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
