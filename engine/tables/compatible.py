"""Whether a table of ours is still one that we can read and write, after other programs had it.

Enters: a table. Leaves: nothing, or an error that says what was found and what was expected, before
anything is started. Left to others: carrying along the columns that another program added, which is
fine (layout/files.py), and whether the table is ours at all (store.py).

delta-rs refuses some of this by itself, but only at the first commit, when the model has been paid;
and of the rest it knows nothing, as we write files by ourselves.
"""

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable
from deltalake import Schema as DeltaSchema

from schemas.errors import UsageError

_READ_FEATURES = {"timestampNtz"}
_WRITE_FEATURES = _READ_FEATURES | {
    # Of these it matters whether they are made use of, see _uses.
    "appendOnly", "invariants", "checkConstraints", "generatedColumns",
    # Without files of its own in a commit, the feed is what was added and removed.
    "changeDataFeed",
}  # fmt: skip


def check_readable(table: DeltaTable) -> None:
    """Refuse a table of which we would read columns by wrong names, or rows that are deleted.

    Raises:
        UsageError: if it has such a feature.
    """
    protocol = table.protocol()
    features = set(protocol.reader_features or ()) - _READ_FEATURES
    mapped = table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none"
    if mapped or protocol.min_reader_version == 2:
        features.add("columnMapping")
    if features:
        raise UsageError(
            f"target {table.table_uri}: another program gave it what pubmark does not read: "
            f"{', '.join(sorted(features))}; expected a table without"
        )


def check_writable(table: DeltaTable, schema: pa.Schema, newest: bool) -> None:
    """Refuse a table that we cannot write to by the rules that another program has given it.

    ``schema`` is what we store there, ``newest`` whether the table has all of it already: one of an
    older version gets the columns that it lacks.

    Raises:
        UsageError: naming all that stands in the way.
    """
    check_readable(table)
    faults = [*_uses(table), *_misfits(table, schema, newest)]
    if faults:
        raise UsageError(
            f"target {table.table_uri}: another program changed it so that pubmark cannot write "
            f"to it: {'; '.join(faults)}"
        )


def _uses(table: DeltaTable) -> Iterator[str]:
    """What the table asks of its writers and we do not do."""
    protocol, metadata = table.protocol(), table.metadata()
    if protocol.min_writer_version > 7:
        yield f"it needs a writer of version {protocol.min_writer_version}, pubmark's is 7"
    if features := sorted(set(protocol.writer_features or ()) - _WRITE_FEATURES):
        yield f"it has the features {', '.join(features)}"
    if metadata.partition_columns:
        yield f"it is partitioned by {', '.join(metadata.partition_columns)}"
    if metadata.configuration.get("delta.appendOnly", "").lower() == "true":
        yield "it may only be appended to (delta.appendOnly)"
    for key in sorted(metadata.configuration):
        if key.startswith("delta.constraints."):
            yield f"it has the constraint {key.removeprefix('delta.constraints.')}"
    for path, field in _fields(json.loads(table.schema().to_json())):
        for key in sorted(field.get("metadata") or {}):
            if key.startswith("delta.") or key == "CURRENT_DEFAULT":
                yield f"its column {path} has {key}"


def _misfits(table: DeltaTable, schema: pa.Schema, newest: bool) -> Iterator[str]:
    """Columns that are not as we store them, and such of others as a new row would have to fill."""
    found = {f["name"]: f for f in json.loads(table.schema().to_json())["fields"]}
    ours = {f["name"]: f for f in json.loads(DeltaSchema.from_arrow(schema).to_json())["fields"]}
    for name, field in ours.items():
        if name not in found:
            if newest:
                yield f"its column {name} is missing"
        elif not _fits(found[name]["type"], field["type"], newest):
            yield (
                f"its column {name} is {_spell(found[name]['type'])}, expected "
                f"{_spell(field['type'])}"
            )
        elif field["nullable"] and not found[name]["nullable"]:
            yield f"its column {name} may not be null"
    for name in found.keys() - ours.keys():
        if not found[name]["nullable"]:
            yield f"the column {name} that was added may not be null, and pubmark would not fill it"


def _fits(found: Any, ours: Any, newest: bool) -> bool:
    """Whether a type of the table's is ours; an older table's may lack fields of a struct."""
    if isinstance(found, str) or isinstance(ours, str):
        return bool(found == ours)
    if found["type"] != ours["type"]:
        return False
    if found["type"] == "struct":
        theirs, known = ({f["name"]: f for f in t["fields"]} for t in (found, ours))
        return (known.keys() == theirs.keys() if newest else known.keys() >= theirs.keys()) and all(
            _fits(f["type"], known[n]["type"], newest) and f["nullable"] >= known[n]["nullable"]
            for n, f in theirs.items()
        )
    parts = ("elementType",) if found["type"] == "array" else ("keyType", "valueType")
    nulls = "containsNull" if found["type"] == "array" else "valueContainsNull"
    return found[nulls] >= ours[nulls] and all(_fits(found[p], ours[p], newest) for p in parts)


def _fields(kind: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """All fields of a type in JSON, also those within others, with their paths."""
    if isinstance(kind, dict):
        for field in kind.get("fields", ()):
            name = f"{path}.{field['name']}" if path else field["name"]
            yield name, field
            yield from _fields(field["type"], name)
        for part in ("elementType", "keyType", "valueType"):
            yield from _fields(kind.get(part), path)


def _spell(kind: Any) -> str:
    """A type in a few words."""
    if isinstance(kind, str):
        return kind
    if kind["type"] == "struct":
        return f"struct<{', '.join(f['name'] for f in kind['fields'])}>"
    if kind["type"] == "array":
        return f"array<{_spell(kind['elementType'])}>"
    return f"map<{_spell(kind['keyType'])}, {_spell(kind['valueType'])}>"


__all__ = ["check_readable", "check_writable"]
