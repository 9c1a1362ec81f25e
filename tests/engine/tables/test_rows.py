"""Rows that the table holds, found and read again."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from small_files import make_small
from tables import fill, put, rows

from engine.planning.settled import changed, settled_pmids
from engine.tables.committer import Committer
from engine.tables.layout.files import NO_PMIDS, stored_files
from engine.tables.layout.rewrite import Rewrite
from engine.tables.layout.writer import write_rows
from engine.tables.maintenance import compact
from engine.tables.reading import KEY_COLUMNS
from engine.tables.rows import (
    count_annotators,
    no_citations,
    read_stored,
    sample,
    stale,
    with_status,
)
from engine.tables.store import Store
from engine.views.sql import open_views
from schemas.citation import CITATION_SCHEMA


def add(store: Store, pmids: range, **values: object) -> None:
    put(store, Rewrite(write_rows(store.load(), rows(pmids, **values)), [], NO_PMIDS))


def test_annotators_are_counted_also_in_files_of_several(store: Store) -> None:
    fill(store, range(1, 5))
    add(store, range(5, 8), annotator="b")
    assert count_annotators(store.load()) == {"a": 4, "b": 3}
    compact(store, "r")
    assert count_annotators(store.load()) == {"a": 4, "b": 3}


def test_stale_rows_are_the_first_by_pmid_that_have_a_text(store: Store) -> None:
    fill(store, range(1, 5))
    add(store, range(5, 8), annotator="b")
    add(store, range(8, 10)[:1], **{"annotator": "c"})
    assert list(stale(store.load(), "b", 3).pmids) == [1, 2, 3]
    assert list(stale(store.load(), "a", 9).pmids) == [5, 6, 7, 8]
    textless = rows([20, 21], annotator="z")
    place = textless.schema.get_field_index("text")
    textless = textless.set_column(place, "text", [[None, None]])
    put(store, Rewrite(write_rows(store.load(), textless), [], NO_PMIDS))
    found = stale(store.load(), "a", 9)
    assert (list(found.pmids), found.textless) == ([5, 6, 7, 8], 2)


def test_rows_are_found_by_status_and_error(store: Store) -> None:
    fill(store, range(1, 5))
    add(store, range(5, 7), status="failed", error="generate: Timeout (1 of 1 prompts failed)")
    add(store, range(7, 8), status="partial", error="align: span (1 of 2 prompts failed)")
    table = store.load()
    assert list(with_status(table, ["failed", "partial"]).pmids) == [5, 6, 7]
    assert list(with_status(table, ["failed", "partial"], "timeout").pmids) == [5, 6]
    assert list(with_status(table, ["failed"], None, [6, 7, 99]).pmids) == [6]
    assert list(with_status(table, ["empty"]).pmids) == []


def test_stored_rows_are_read_as_citations(store: Store) -> None:
    fill(store, range(1, 6))
    table = store.load()
    (file,) = stored_files(table)
    parts = list(read_stored(table.table_uri, file.path, np.array([2, 4, 5]), 2))
    assert [p["pmid"].to_pylist() for p in parts] == [[2, 4], [5]]
    assert parts[0].schema == CITATION_SCHEMA == no_citations().schema
    first = parts[0].to_pylist()[0]
    assert (first["text"], first["title_length"], first["source"]) == ("x 2", 3, "s")


def test_a_sample_is_the_same_for_a_seed_and_from_all_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_small(monkeypatch, ROWS_PER_GROUP=8)
    fill(store, range(1, 101), range(200, 300))
    for pmids in (range(300, 310), range(310, 320)):
        add(store, pmids, annotator="b", status="ok")
    put(store, Rewrite(write_rows(store.load(), rows(range(400, 500), status="ok")), [], NO_PMIDS))
    table = store.load()
    first, again = (sample(table, "a", 20, 1)["pmid"].to_pylist() for _ in range(2))
    assert first == again and len(first) == 20 and min(first) >= 400
    assert sample(table, "a", 20, 2)["pmid"].to_pylist() != first
    assert (
        len(sample(table, "b", 99, 1)) == 20 and "mentions" in sample(table, "b", 1, 1).schema.names
    )
    assert len(sample(table, "none", 5, 1)) == 0


def test_a_row_that_another_run_has_changed_is_left() -> None:
    ours = rows([1, 2, 3, 4, 5], metadata_digest=7)
    theirs = rows([1, 2, 3, 4], metadata_digest=7).select(list(KEY_COLUMNS)).to_pylist()
    theirs[1]["text_digest"] = b"1" * 16
    theirs[2]["metadata_digest"] = 8
    theirs[3]["metadata_digest"] = None  # of version 1
    stored = rows([]).select(list(KEY_COLUMNS)).from_pylist(theirs)
    assert changed(stored, ours).to_pylist() == [2, 3, 5]


def test_sql_filters_by_columns_that_files_state_no_bounds_of(store: Store) -> None:
    # delta-rs's own dataset found nothing here.
    fill(store, range(1, 5))
    add(store, range(5, 7), status="failed")
    query = "SELECT pmid FROM annotations WHERE status = 'failed' AND pmid < 6"
    assert open_views(store.root).execute(query).fetchall() == [(5,)]


def test_rows_that_delta_rs_has_updated_are_found_and_read(store: Store) -> None:
    fill(store, range(1, 6))
    add(store, range(6, 9), annotator="b", status="ok")
    DeltaTable(store.uri("annotations")).update(updates={"journal": "'J'"})
    table = store.load()
    kinds = {str(pq.read_schema(uri).field("text").type) for uri in table.file_uris()}
    assert kinds == {"string_view"}, "delta-rs writes plain types now: this test is of no use"
    assert count_annotators(table) == {"a": 5, "b": 3}
    assert list(stale(table, "b", 9).pmids) == [1, 2, 3, 4, 5]
    assert list(with_status(table, ["ok"]).pmids) == [6, 7, 8]
    assert sample(table, "b", 9, 1)["journal"].to_pylist() == ["J"] * 3
    read = [p for f in stored_files(table)
            for p in read_stored(table.table_uri, f.path, np.array([2, 7]), 9)]  # fmt: skip
    assert sorted(t for p in read for t in p["text"].to_pylist()) == ["x 2", "x 7"]
    committer = Committer(store.load(), None, settled_pmids)
    assert committer.remove_annotators(["b"]) == 3
