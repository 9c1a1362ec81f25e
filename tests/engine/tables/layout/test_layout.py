"""How rows lie in files: by PMID, in plain Parquet, made anew only where something changes."""

import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pyarrow.dataset import dataset
from small_files import make_small
from tables import fill, put, rows, texts

from engine.tables.layout.compaction import compact_once
from engine.tables.layout.files import STORED_SCHEMA, stored_files, touched
from engine.tables.layout.rewrite import Changes, rewrite
from engine.tables.layout.writer import write_rows
from engine.tables.store import Store
from schemas.annotations import METADATA_COLUMNS


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch, ROWS_PER_FILE=10, ROWS_PER_GROUP=4, _LOT_ROWS=30, _FEW=1)


def test_files_say_what_they_hold(store: Store) -> None:
    fill(store, range(32))
    found = [(f.rows, f.low, f.high) for f in stored_files(store.load())]
    assert found == [(10, 0, 9), (11, 10, 20), (11, 21, 31)]
    files = touched(stored_files(store.load()), np.array([9, 21, 40]))
    assert [f.low for f in files] == [0, 21]


def test_only_files_that_hold_what_changes_are_made_anew(store: Store) -> None:
    fill(store, range(0, 60, 2))
    before = {f.path: f for f in stored_files(store.load())}
    # 41 is in the range of the last file, but not in it.
    done = rewrite(store.load(), Changes(gone=np.array([22, 41])))
    assert [before[f.path].low for f in done.removed] == [20]
    assert done.found.tolist() == [22] and done.bytes_written > 0
    put(store, done)
    assert sorted(texts(store)) == [p for p in range(0, 60, 2) if p != 22]


@pytest.mark.parametrize("few", [0, 100])
def test_rows_are_replaced_patched_and_removed_in_one_pass(
    store: Store, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_small(monkeypatch, _FEW=few)
    fill(store, range(25))
    replaced, patched, gone = np.array([0, 3, 12]), np.array([4, 13, 24]), np.array([1, 2, 19])
    news = rows(replaced, "new")
    patches = rows(patched, version=7, journal="J", source="later", metadata_digest=5)
    done = rewrite(
        store.load(),
        Changes([dataset(news)], replaced, patches.select(["pmid", *METADATA_COLUMNS]), gone),
    )
    put(store, done)
    expected = {p: f"new {p}" if p in replaced else f"x {p}" for p in range(25) if p not in gone}
    assert texts(store) == expected
    table = store.load().to_pyarrow_table().sort_by("pmid")
    found = {r["pmid"]: r for r in table.to_pylist()}
    for pmid, row in found.items():
        of_patch = (7, "J", "later", 5) if pmid in patched else (1, None, "s", None)
        assert (
            tuple(row[n] for n in ("version", "journal", "source", "metadata_digest")) == of_patch
        )
        assert row["text"] and row["mentions"][0]["entity_type"] == "gene"
    for uri in store.load().file_uris():
        pmids = pq.read_table(uri.removeprefix("file://"))["pmid"].to_pylist()
        assert pmids == sorted(pmids)


def test_a_file_of_which_nothing_is_left_goes(store: Store) -> None:
    fill(store, range(5))
    put(store, rewrite(store.load(), Changes(gone=np.arange(5))))
    assert stored_files(store.load()) == []
    left = [p for p in Path(store.root).rglob("*.parquet") if "_delta_log" not in str(p)]
    assert len(left) == 1  # the former one, until it is vacuumed


def test_files_are_plain_parquet_also_where_delta_rs_had_merged(store: Store) -> None:
    fill(store, range(5))
    table = store.load()
    table.merge(rows([3], "merged"), "old.pmid = new.pmid", "new", "old") \
        .when_matched_update_all().execute()  # fmt: skip
    put(store, rewrite(store.load(), Changes([dataset(rows([4], "new"))], np.array([4]))))
    (uri,) = store.load().file_uris()
    path = uri.removeprefix("file://")
    assert pq.read_schema(path).equals(STORED_SCHEMA)
    frame = pandas.read_parquet(path).set_index("pmid")
    assert frame.text.to_dict() == {0: "x 0", 1: "x 1", 2: "x 2", 3: "merged 3", 4: "new 4"}


@pytest.mark.parametrize("seed", range(4))
def test_compacting_lays_files_side_by_side_and_changes_nothing(store: Store, seed: int) -> None:
    chance = random.Random(seed)
    pmids = chance.sample(range(1000), 160)
    parts = []
    while pmids:
        size = chance.choice([1, 3, 12, 25])
        parts.append([pmids.pop() for _ in range(min(size, len(pmids)))])
    if seed % 2:
        parts.insert(0, range(2000, 2040))
    fill(store, *parts)
    before, rounds = texts(store), 0
    while done := compact_once(store.load()):
        put(store, done)
        rounds += 1
        assert rounds < 20
    files = stored_files(store.load())
    assert texts(store) == before
    assert all(a.high < b.low for a, b in pairwise(files))
    assert all(5 <= f.rows <= 15 for f in files)


def test_what_lies_well_is_left_alone(store: Store) -> None:
    fill(store, range(30))
    assert compact_once(store.load()) is None
    fill(store, [100])  # one small file at the end
    assert compact_once(store.load()) is None
    fill(store, [5000], [3000])
    old = {f.path for f in stored_files(store.load())[:2]}
    done = compact_once(store.load())
    assert done is not None and not old & {f.path for f in done.removed}


def test_an_action_names_the_table_relative(store: Store) -> None:
    (action,) = write_rows(store.load(), rows([1]))
    assert "/" not in action.path and DeltaTable(store.uri("annotations")).version() == 0
