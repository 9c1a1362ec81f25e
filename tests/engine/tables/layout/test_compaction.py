"""Small and overlapping files put together, by PMID."""

import random
from itertools import pairwise

import pytest
from tables import fill, put, texts

from engine.tables.layout.compaction import compact_once
from engine.tables.layout.files import stored_files
from engine.tables.store import Store


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
