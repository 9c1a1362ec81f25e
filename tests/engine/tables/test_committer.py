"""Commits among other writers, staged rows, and tables of an older version."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError
from small_files import make_small
from tables import fill, rows, texts

from engine.planning.settled import settled_pmids
from engine.tables import committer as commits
from engine.tables.committer import Committer
from engine.tables.layout.files import NO_PMIDS, stored_files
from engine.tables.ledger import FILES_ID
from engine.tables.store import Store
from engine.tables.transactions import Overtaken
from schemas.annotations import ANNOTATIONS_SCHEMA
from schemas.errors import JobError

SCATTERED = list(range(0, 100, 20))


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch, ROWS_PER_FILE=10)
    monkeypatch.setattr(commits, "_ROWS_READ_AT_ONCE", 0)
    monkeypatch.setattr(commits, "_ROWS_READ_PER_REPLACED", 4)


def committer(store: Store, present: Any = NO_PMIDS, run_id: str = "r", **more: Any) -> Committer:
    return Committer(
        store.load(), np.array(present, np.int64), settled_pmids, store=store, run_id=run_id, **more
    )


def newer(pmids: Any, **values: Any) -> pa.Table:
    return rows(pmids, "new", text_digest=b"1" * 16, **values)


def files(store: Store) -> set[str]:
    return {f.path for f in stored_files(store.load())}


def parquet(store: Store) -> set[str]:
    return {p.name for p in Path(store.uri("annotations")).glob("*.parquet")}


def test_scattered_rows_are_staged_and_put_in_their_place_at_once(store: Store) -> None:
    fill(store, range(100))
    run, before = committer(store, SCATTERED), files(store)
    for pmid in SCATTERED:  # each commit would read ten rows for one
        assert run.commit(newer([pmid, 1000 + pmid])).written == 2
    assert before < files(store) and all(texts(store)[p] == f"x {p}" for p in SCATTERED)
    done = run.finish(gone=np.array([1, 99]), transactions=[Transaction(FILES_ID, 1)])
    assert (done.replaced, done.deleted) == (5, 2)
    found = texts(store)
    assert {p for p in found if found[p].startswith("new")} == {
        *SCATTERED, *(1000 + p for p in SCATTERED)
    }  # fmt: skip
    assert len(found) == 103 and store.load().transaction_version(FILES_ID) == 1
    assert store.load("staged").file_uris() == []


def test_rows_that_lie_together_are_replaced_at_once(store: Store) -> None:
    fill(store, range(100))
    run = committer(store, range(20, 28))
    run.commit(newer(range(20, 28)))
    assert texts(store)[20] == "new 20" and not store.has("staged")


def test_nothing_to_do_writes_nothing(store: Store) -> None:
    fill(store, range(5))
    version = store.load().version()
    committer(store).finish()
    assert store.load().version() == version


def test_what_another_run_staged_is_put_in_its_place(store: Store) -> None:
    fill(store, range(100))
    committer(store, SCATTERED, "crashed").commit(newer(SCATTERED[:2], run_id="crashed"))
    assert store.has("staged")
    run = committer(store, [], "next")
    assert run.place_staged() == 2
    assert texts(store)[0] == "new 0" and texts(store)[20] == "new 20"
    assert run.place_staged() == 0


def test_staged_rows_that_were_placed_before_the_crash_are_not_placed_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, range(100))
    crashed = committer(store, SCATTERED, "crashed")
    crashed.commit(newer([0], run_id="crashed"))
    monkeypatch.setattr(crashed._staging, "remove", lambda files: None)
    crashed.finish()
    committer(store, [0, 1], "later").finish(gone=np.array([0]))
    version = store.load().version()

    def known(stored: pa.Table, rows: pa.Table) -> pa.Array:  # a ledger that knows of the deletion
        return rows["pmid"].combine_chunks()

    assert committer(store, [], "next", staged_late=known).place_staged() == 0
    assert 0 not in texts(store) and store.load().version() == version


def test_an_appending_writer_does_not_disturb_a_pass(store: Store) -> None:
    fill(store, range(100))
    slow, fast = committer(store, range(100)), committer(store)
    fast.commit(rows([500]))
    slow.commit(newer(range(10, 20)))  # rebased: nothing of it is planned again
    assert texts(store)[10] == "new 10" and 500 in texts(store)
    assert files(store) <= parquet(store)


def test_a_run_that_was_overtaken_has_to_plan_again(store: Store) -> None:
    fill(store, range(100))
    slow, fast = committer(store), committer(store)
    fast.finish(gone=np.array([5]))
    before = parquet(store)
    with pytest.raises(Overtaken):
        slow.finish(gone=np.array([5, 6]))
    assert parquet(store) == before, "an orphan was left"
    assert 6 in texts(store)


def test_files_taken_in_meanwhile_are_asked_about_each_row(store: Store) -> None:
    fill(store, range(10))

    def superseded(stored: pa.Table, rows: pa.Table) -> pa.Array:
        return pa.array([70], pa.int64())

    slow, fast = committer(store, superseded=superseded), committer(store)
    fast.finish(transactions=[Transaction(FILES_ID, 1)])
    done = slow.commit(rows([70, 71]))
    assert (done.written, done.dropped) == (1, 1) and 70 not in texts(store)


def test_another_task_that_came_meanwhile_names_its_run(store: Store) -> None:
    def check(newest: DeltaTable) -> None:
        raise JobError("other types")

    slow = committer(store, check=check)
    committer(store, run_id="the-other").commit(rows([1]))
    with pytest.raises(JobError, match="other types"):
        slow.commit(rows([2]))
    assert store.load().history(1)[0]["pubmark.run_id"] == "the-other"
    assert sorted(texts(store)) == [1]


def test_a_commit_of_which_only_the_answer_is_lost_stands(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, range(10))
    transact = DeltaTable.create_write_transaction

    def lose_the_answer(*args: Any, **kwargs: Any) -> None:
        transact(*args, **kwargs)
        raise CommitFailedError("version exists already")

    with monkeypatch.context() as patched:
        patched.setattr(DeltaTable, "create_write_transaction", lose_the_answer)
        assert committer(store, range(4)).commit(newer(range(4))).written == 4
    assert texts(store)[3] == "new 3" and files(store) <= parquet(store)


def test_a_table_of_version_1_gets_the_columns_that_it_lacks(tmp_path: Path) -> None:
    older = pa.schema([f for f in ANNOTATIONS_SCHEMA if f.name != "metadata_digest"])
    table = DeltaTable.create(
        str(tmp_path / "t/annotations"), schema=older,
        configuration={"pubmark.schema_version": "1"}, raise_if_key_not_exists=False,
    )  # fmt: skip
    made = Store(str(tmp_path / "t"))
    table.merge(rows([1, 2]).drop_columns("metadata_digest"), "old.pmid = new.pmid", "new", "old") \
        .when_not_matched_insert_all().execute()  # fmt: skip
    assert sorted(texts(made)) == [1, 2]
    made.create()
    committer(made, [2]).commit(newer([2], metadata_digest=5))
    table = made.load().to_pyarrow_table().sort_by("pmid")
    assert table["metadata_digest"].to_pylist() == [None, 5]
    assert made.load().metadata().configuration["pubmark.schema_version"] == "2"
