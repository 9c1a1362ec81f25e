"""Columns that another program adds to the table travel with the rows that we do not change."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, Field, write_deltalake
from deltalake.schema import PrimitiveType
from pyarrow.dataset import dataset
from small_files import make_small
from tables import fill, put, rows, texts

from engine.planning.settled import settled_pmids
from engine.tables.committer import Committer
from engine.tables.layout.files import NO_PMIDS, stored_files
from engine.tables.layout.rewrite import Changes, rewrite
from engine.tables.maintenance import compact
from engine.tables.store import Store
from engine.views.sql import open_views
from schemas.annotations import METADATA_COLUMNS
from schemas.errors import JobError

KINDS: dict[str, tuple[pa.DataType, Any]] = {
    "string": (pa.string(), "team A"),
    "large_string": (pa.large_string(), "team A"),
    "string_view": (pa.string_view(), "team A"),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), "team A"),
    "binary": (pa.binary(), b"\x00\xff"),
    "long": (pa.int64(), 2**60),
    "byte": (pa.int8(), -3),
    "double": (pa.float64(), 0.1),
    "boolean": (pa.bool_(), False),
    "decimal": (pa.decimal128(30, 3), Decimal("1.250")),
    "date": (pa.date32(), date(2026, 2, 3)),
    "timestamp": (pa.timestamp("us", "UTC"), datetime(2026, 2, 3, 4, 5, 6, 7, UTC)),
    "timestamp_ntz": (pa.timestamp("us"), datetime(2026, 2, 3, 4, 5, 6, 7)),
    "struct": (
        pa.struct([("who", pa.string()), ("votes", pa.list_(pa.int32()))]),
        {"who": "A", "votes": [1, 2]},
    ),
    "list": (pa.list_(pa.struct([("a", pa.int64())])), [{"a": 1}, {"a": None}]),
    "map": (pa.map_(pa.string(), pa.int64()), [("x", 1)]),
}


def review(store: Store, pmids: Any, kind: pa.DataType, value: Any, **more: Any) -> None:
    """As another program would: append rows with a column ``reviewed`` of its own."""
    made = rows(pmids).append_column("reviewed", pa.array([value] * len(pmids), kind))
    for name, column in more.items():
        made = made.append_column(name, pa.array([column] * len(pmids)))
    write_deltalake(store.uri("annotations"), made, mode="append", schema_mode="merge")


def reviewed(store: Store, column: str = "reviewed") -> dict[int, Any]:
    found = store.dataset().to_table(columns=["pmid", column])
    return dict(zip(found["pmid"].to_pylist(), found[column].to_pylist(), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_it_travels_whatever_its_type(store: Store, kind: str) -> None:
    arrow, value = KINDS[kind]
    fill(store, range(0, 12, 2))
    review(store, range(1, 12, 2), arrow, value)
    before = reviewed(store)
    assert before == {p: value if p % 2 else None for p in range(12)}
    assert compact(store, "r") == (2, 1)
    assert reviewed(store) == before
    put(store, rewrite(store.load(), Changes(gone=np.array([3, 4]))))
    assert reviewed(store) == {p: v for p, v in before.items() if p not in (3, 4)}


@pytest.mark.parametrize("few", [0, 100])
def test_it_is_null_in_rows_that_are_made_anew_alone(
    store: Store, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_small(monkeypatch, _FEW=few)
    review(store, range(8), pa.string(), "team A", **{"2nd odd.name": 1})
    news, patches = rows([2, 5], "new"), rows([3, 6], journal="J", source="later")
    patched = patches.select(["pmid", *METADATA_COLUMNS])
    changes = Changes([dataset(news)], np.array([2, 5]), patched, np.array([7]))
    put(store, rewrite(store.load(), changes))
    expected = {p: None if p in (2, 5) else "team A" for p in range(7)}
    assert reviewed(store) == expected
    assert reviewed(store, "2nd odd.name") == {p: v and 1 for p, v in expected.items()}
    assert texts(store) == {p: f"new {p}" if p in (2, 5) else f"x {p}" for p in range(7)}
    assert reviewed(store, "journal")[3] == "J"


def test_a_column_that_was_filled_by_an_update_outlives_a_run(store: Store) -> None:
    fill(store, range(20))
    uri = store.uri("annotations")
    DeltaTable(uri).alter.add_columns([Field("reviewed", PrimitiveType("string"))])
    DeltaTable(uri).update(updates={"reviewed": "'team A'"})
    store.check()
    store.create()
    query = "SELECT count(*) FROM annotations WHERE reviewed = 'team A'"
    assert open_views(store.root).execute(query).fetchall() == [(20,)]
    committer = Committer(store.load(), np.array([4]), settled_pmids, store=store, run_id="r")
    committer.commit(rows([4, 50], "new", text_digest=b"1" * 16))
    committer.finish(gone=np.array([11]))
    compact(store, "r")
    expected = {p: "team A" for p in range(20) if p != 11} | {4: None, 50: None}
    assert reviewed(store) == expected
    assert open_views(store.root).execute(query).fetchall() == [(18,)]


def test_a_column_that_is_added_while_a_run_goes_on(store: Store) -> None:
    fill(store, range(20))
    committer = Committer(store.load(), NO_PMIDS, settled_pmids, store=store, run_id="r")
    committer.commit(rows([100]))
    review(store, [101], pa.string(), "team A")
    committer.commit(rows([102, 5], "new", text_digest=b"1" * 16))
    assert set(reviewed(store)) == {*range(20), 100, 101, 102}
    assert reviewed(store)[101] == "team A"


def test_the_struct_of_a_column_may_have_grown(store: Store) -> None:
    review(store, [1], pa.struct([("a", pa.int64())]), {"a": 1})
    review(store, [2], pa.struct([("a", pa.int64()), ("b", pa.string())]), {"a": 2, "b": "x"})
    compact(store, "r")
    assert reviewed(store) == {1: {"a": 1, "b": None}, 2: {"a": 2, "b": "x"}}


def test_a_file_that_is_not_as_the_table_says_is_named_and_nothing_is_lost(store: Store) -> None:
    fill(store, [1, 2])
    review(store, [3], pa.string(), "not a number")
    table, uri = store.load(), store.uri("annotations")
    log = f"{uri}/_delta_log/{table.version():020}.json"
    with open(log, encoding="utf-8") as file:  # noqa: PTH123
        text = file.read()
    column = '{\\"name\\":\\"reviewed\\",\\"type\\":\\"string\\"'
    assert column in text
    with open(log, "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(text.replace(column, column.replace("string", "long")))
    before = {f.path for f in stored_files(store.load())}
    with pytest.raises(
        JobError, match=r"parquet: its columns are not of the table's types: .*not a number"
    ):
        compact(store, "r")
    assert {f.path for f in stored_files(store.load())} == before


def test_its_filter_finds_it_in_files_of_ours(store: Store) -> None:
    review(store, range(12), pa.string(), "team A")
    fill(store, [20])
    compact(store, "r")
    assert store.dataset().count_rows(filter=pc.field("reviewed") == "team A") == 12
