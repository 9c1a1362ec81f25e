"""Commits: atomic, conditional, a PMID once."""

import subprocess
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from engine.planning.settled import settled_pmids
from engine.tables.committer import Committer
from engine.tables.reading import read_keys
from engine.tables.store import Store
from schemas.annotations import ANNOTATIONS_SCHEMA
from schemas.citation import digest_text
from schemas.errors import JobError, UsageError

ROOT = Path(__file__).parents[3]
NONE = np.array([], np.int64)


def rows(*pmids: int, text: str = "x", **values: Any) -> pa.Table:
    made = [
        {
            "pmid": p, "version": 1, "text": text, "text_digest": digest_text(text),
            "sentences": [], "mentions": [], "status": "ok", "annotator": "a", "run_id": "r",
            "annotated_at": datetime.now(UTC), "source": "s",
        } | values
        for p in pmids
    ]  # fmt: skip
    return pa.Table.from_pylist(made, schema=ANNOTATIONS_SCHEMA)


def committer(store: Store, present: np.ndarray | None = NONE) -> Committer:
    return Committer(store.load(), present, settled_pmids)


def stored(store: Store) -> dict[int, str]:
    table = store.load().to_pyarrow_table(columns=["pmid", "text"])
    pairs = list(zip(table["pmid"].to_pylist(), table["text"].to_pylist(), strict=True))
    assert len(pairs) == len(dict(pairs)), "a PMID stands twice"
    return dict(pairs)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(str(tmp_path / "t"))
    made.create()
    return made


def test_create_makes_three_tables_and_leaves_those_that_are_there(store: Store) -> None:
    committer(store).commit(rows(1))
    assert store.create().version() == 1
    assert {p.name for p in Path(store.root).iterdir()} == {"annotations", "annotators", "runs"}


def test_new_rows_are_appended_and_known_ones_replaced(store: Store) -> None:
    assert committer(store).commit(rows(3, 1, 2)).written == 3
    done = committer(store, np.array([2, 3])).commit(rows(2, 4, text="y"))
    assert (done.written, done.dropped) == (2, 0)
    assert stored(store) == {1: "x", 2: "y", 3: "x", 4: "y"}


def test_a_replaced_row_is_replaced_in_every_column(store: Store) -> None:
    committer(store).commit(rows(1, error="old", journal="J", mentions=[{"start": 0, "end": 1}]))
    committer(store, np.array([1])).commit(rows(1, text="y"))
    (row,) = store.load().to_pyarrow_table().to_pylist()
    assert (row["text"], row["error"], row["journal"], row["mentions"]) == ("y", None, None, [])
    assert row["text_digest"] == digest_text("y")


def test_of_two_writers_the_slower_drops_what_the_faster_has_settled(store: Store) -> None:
    fast, slow = committer(store), committer(store)
    fast.commit(rows(1, 2))
    done = slow.commit(rows(2, 3))
    assert (done.written, done.dropped) == (1, 1)
    assert stored(store) == {1: "x", 2: "x", 3: "x"}
    assert slow.commit(rows(1)).written == 0


def test_of_two_writers_the_slower_replaces_what_the_faster_did_otherwise(store: Store) -> None:
    fast, slow = committer(store), committer(store)
    fast.commit(rows(1, 2))
    done = slow.commit(rows(2, text="y"))
    assert (done.written, done.dropped) == (1, 0)
    assert stored(store) == {1: "x", 2: "y"}


def test_retried_rows_are_not_held_up_by_the_failed_ones(store: Store) -> None:
    committer(store).commit(rows(1, status="failed"))
    late = Committer(store.load(), None, partial(settled_pmids, retry=["failed"]))
    assert late.commit(rows(1)).written == 1


def test_a_write_that_fails_by_itself_is_a_job_error(store: Store) -> None:
    before = store.load()
    late = Committer(before, NONE, settled_pmids)
    log = Path(store.root) / "annotations/_delta_log"
    # The log's next file cannot be written: a folder stands where it would be.
    (log / f"{before.version() + 1:020}.json").mkdir()
    with pytest.raises(JobError, match="annotations"):
        late.commit(rows(1))


def test_rows_of_other_annotators_are_removed(store: Store) -> None:
    done = committer(store)
    done.commit(rows(1, 2))
    done.commit(rows(3, annotator="o'b"))
    assert done.remove_annotators(["o'b"]) == 1
    assert sorted(stored(store)) == [1, 2]


def test_keys_of_some_pmids(store: Store) -> None:
    committer(store).commit(rows(*range(1, 100)))
    found = read_keys(store.load(), pa.chunked_array([[5, 50, 500]], pa.int64()))
    assert sorted(found["pmid"].to_pylist()) == [5, 50]


def test_a_newer_schema_version_is_refused(tmp_path: Path) -> None:
    DeltaTable.create(
        str(tmp_path / "t/annotations"),
        schema=ANNOTATIONS_SCHEMA,
        configuration={"pubmark.schema_version": "99"},
        raise_if_key_not_exists=False,
    )
    with pytest.raises(UsageError, match="schema version 99, this pubmark knows up to 2"):
        Store(str(tmp_path / "t")).check()


def test_another_programs_table_is_refused_and_an_empty_place_is_not(tmp_path: Path) -> None:
    Store(str(tmp_path / "nothing")).check()
    write_deltalake(tmp_path / "runs/runs", pa.table({"x": [1]}))
    with pytest.raises(UsageError, match="table of another program"):
        Store(str(tmp_path / "runs")).check()


def test_a_place_with_an_awkward_name(tmp_path: Path) -> None:
    made = Store(str(tmp_path / "a b é#c"))
    made.create()
    committer(made).commit(rows(1))
    assert read_keys(made.load())["pmid"].to_pylist() == [1]


@pytest.mark.slow
def test_a_process_that_reads_and_ends_does_not_abort(store: Store) -> None:
    committer(store).commit(rows(*range(1, 200)))
    code = (
        "import sys; from engine.tables.reading import open_dataset;"
        "from engine.tables.store import Store;"
        "import pyarrow.compute as pc;"
        "d = open_dataset(Store(sys.argv[1]).load()); d.to_table(filter=pc.field('pmid') == 1)"
    )
    for _ in range(6):
        done = subprocess.run([sys.executable, "-c", code, store.root], cwd=ROOT)
        assert done.returncode == 0


def test_a_scheme_that_is_unknown_is_refused() -> None:
    with pytest.raises(UsageError, match="gopher://host/t"):
        Store("gopher://host/t").check()
