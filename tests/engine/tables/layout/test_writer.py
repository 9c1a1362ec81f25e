"""New files: plain Parquet, whose paths are relative to the table."""

import numpy as np
import pandas
import pyarrow.parquet as pq
from deltalake import DeltaTable
from pyarrow.dataset import dataset
from tables import fill, put, rows

from engine.tables.layout.files import STORED_SCHEMA
from engine.tables.layout.rewrite import Changes, rewrite
from engine.tables.layout.writer import write_rows
from engine.tables.store import Store


def test_an_action_names_the_table_relative(store: Store) -> None:
    (action,) = write_rows(store.load(), rows([1]))
    assert "/" not in action.path and DeltaTable(store.uri("annotations")).version() == 0


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
