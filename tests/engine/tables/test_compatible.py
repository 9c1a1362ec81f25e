"""Tables of ours that another program has changed: what can still be written to, and what not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Field, write_deltalake
from deltalake.schema import PrimitiveType
from tables import fill, rows

from engine.tables.store import Store
from schemas.annotations import ANNOTATIONS_SCHEMA
from schemas.errors import UsageError

Edit = Callable[[dict[str, Any]], None]


def change_log(store: Store, edit: Edit, table: str = "annotations") -> None:
    """Change the actions of a table's first commit, as a program that delta-rs is not would."""
    file = Path(store.root) / table / "_delta_log" / f"{0:020}.json"
    actions = [json.loads(line) for line in file.read_text().splitlines()]
    for action in actions:
        edit(action)
    file.write_text("\n".join(map(json.dumps, actions)))


def feature(name: str, reads: bool = False) -> Edit:
    def edit(action: dict[str, Any]) -> None:
        if "protocol" in action:
            action["protocol"] = {
                "minReaderVersion": 3 if reads else 1, "minWriterVersion": 7,
                "writerFeatures": [name],
            } | ({"readerFeatures": [name]} if reads else {})  # fmt: skip

    return edit


def configure(key: str, value: str) -> Edit:
    def edit(action: dict[str, Any]) -> None:
        if "metaData" in action:
            action["metaData"]["configuration"][key] = value

    return edit


def column(change: Callable[[list[dict[str, Any]]], None]) -> Edit:
    def edit(action: dict[str, Any]) -> None:
        if "metaData" in action:
            schema = json.loads(action["metaData"]["schemaString"])
            change(schema["fields"])
            action["metaData"]["schemaString"] = json.dumps(schema)

    return edit


def named(fields: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(f for f in fields if f["name"] == name)


EXTRA = {"name": "extra", "type": "string", "nullable": True, "metadata": {}}
STRUCT = {"type": "struct", "fields": [EXTRA | {"metadata": {"delta.invariants": "x"}}]}


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        (feature("deletionVectors", reads=True), "does not read: deletionVectors"),
        (feature("columnMapping", reads=True), "does not read: columnMapping"),
        (configure("delta.columnMapping.mode", "name"), "does not read: columnMapping"),
        (feature("typeWidening", reads=True), "does not read: typeWidening"),
        (feature("rowTracking"), "has the features rowTracking"),
        (feature("inCommitTimestamp"), "has the features inCommitTimestamp"),
        (feature("identityColumns"), "has the features identityColumns"),
        (feature("somethingNew"), "has the features somethingNew"),
        (configure("delta.appendOnly", "true"), r"only be appended to \(delta.appendOnly\)"),
        (configure("delta.constraints.positive", "pmid > 0"), "has the constraint positive"),
        (column(lambda f: f.append(EXTRA | {"nullable": False})), "extra that was added may not"),
        (
            column(lambda f: f.append(EXTRA | {"metadata": {"delta.generationExpression": "1"}})),
            "column extra has delta.generationExpression",
        ),
        (
            column(lambda f: f.append(EXTRA | {"metadata": {"delta.invariants": "{}"}})),
            "column extra has delta.invariants",
        ),
        (
            column(lambda f: f.append(EXTRA | {"type": STRUCT})),
            "column extra.extra has delta.invariants",
        ),
        (
            column(lambda f: f.append(EXTRA | {"metadata": {"CURRENT_DEFAULT": "'x'"}})),
            "column extra has CURRENT_DEFAULT",
        ),
        (column(lambda f: named(f, "journal").update(name="title")), "column journal is missing"),
        (column(lambda f: f.remove(named(f, "doi"))), "column doi is missing"),
        (column(lambda f: named(f, "text").update(type="binary")), "text is binary, expected str"),
        (column(lambda f: named(f, "text").update(nullable=False)), "column text may not be null"),
        (
            column(lambda f: named(f, "mentions")["type"]["elementType"]["fields"].append(EXTRA)),
            "mentions is array<struct<start, .*, extra>>, expected array<struct<start, ",
        ),
    ],
)
def test_what_cannot_be_written_to_is_refused(store: Store, edit: Edit, found: str) -> None:
    change_log(store, edit)
    with pytest.raises(UsageError, match=rf"annotations/?: another program .*{found}"):
        store.check()


def test_all_faults_are_told_at_once(store: Store) -> None:
    change_log(store, configure("delta.appendOnly", "true"))
    change_log(store, column(lambda f: f.remove(named(f, "doi"))))
    with pytest.raises(UsageError, match=r"appendOnly.*; its column doi is missing"):
        store.check()


def test_a_partitioned_table_is_refused(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "t"))
    DeltaTable.create(
        store.uri("annotations"), schema=ANNOTATIONS_SCHEMA, partition_by=["status"],
        configuration={"pubmark.schema_version": "2"}, raise_if_key_not_exists=False,
    )  # fmt: skip
    with pytest.raises(UsageError, match="partitioned by status"):
        store.check()


def test_so_is_what_delta_rs_does_not_open(store: Store) -> None:
    change_log(store, feature("somethingNew", reads=True))
    with pytest.raises(UsageError, match=r"cannot be opened: .*somethingNew"):
        store.check()


def test_a_companion_table_is_looked_at_too(store: Store) -> None:
    change_log(store, column(lambda f: named(f, "job").update(name="work")), "runs")
    with pytest.raises(UsageError, match=r"runs/?: .*column job is missing"):
        store.check()


@pytest.mark.parametrize(
    "edit",
    [
        configure("delta.constraints.positive", "pmid > 0"),
        configure("delta.appendOnly", "true"),
        feature("rowTracking"),
    ],
)
def test_what_cannot_be_written_to_can_be_read(store: Store, edit: Edit) -> None:
    fill(store, [1])
    change_log(store, edit)
    assert store.dataset().count_rows() == 1


@pytest.mark.parametrize("edit", [
    feature("deletionVectors", reads=True), configure("delta.columnMapping.mode", "id"),
])  # fmt: skip
def test_what_would_be_read_wrongly_is_refused_to_readers(store: Store, edit: Edit) -> None:
    fill(store, [1])
    change_log(store, edit)
    with pytest.raises(UsageError, match="does not read"):
        store.dataset()


def test_what_other_programs_may_do(store: Store) -> None:
    uri = store.uri("annotations")
    fill(store, [1])
    DeltaTable(uri).alter.add_columns([Field("extra", PrimitiveType("string"))])
    DeltaTable(uri).alter.set_table_properties({"delta.enableChangeDataFeed": "true"})
    made = rows([2]).append_column("at", pa.array([0], pa.timestamp("us")))
    write_deltalake(uri, made, mode="append", schema_mode="merge")  # with the feature timestampNtz
    store.check()
    fill(store, [3])
    assert store.dataset().count_rows() == 3


def test_a_table_of_an_older_version_may_lack_what_it_did_not_have(store: Store) -> None:
    change_log(store, column(lambda f: f.remove(named(f, "metadata_digest"))))
    change_log(store, configure("pubmark.schema_version", "1"))
    store.check()
    assert "metadata_digest" in store.create().schema().to_json()
