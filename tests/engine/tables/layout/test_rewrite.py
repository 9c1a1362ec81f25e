"""Files made anew where rows in them change, and only there."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyarrow.dataset import dataset
from small_files import make_small
from tables import fill, put, rows, texts

from engine.tables.layout.files import stored_files
from engine.tables.layout.rewrite import Changes, rewrite
from engine.tables.store import Store
from schemas.annotations import METADATA_COLUMNS


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
