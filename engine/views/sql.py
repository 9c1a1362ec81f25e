"""The tables as SQL views, in DuckDB, without any extension.

DuckDB scans what delta-rs says belongs to a table now, so replaced rows are never seen; columns
and row groups that a query does not need are not read.
"""

from datetime import UTC, datetime

import duckdb
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from pyarrow.fs import FileType

from engine.storage.duck import connect
from engine.tables.commits import version_at
from engine.tables.layout.files import filesystem, stored_files
from engine.tables.layout.leftovers import is_ours
from engine.tables.reading import open_dataset
from engine.tables.store import TABLES, Store
from engine.views.lock import lock
from schemas.errors import UsageError

MENTIONS_VIEW = """
CREATE VIEW mentions AS
SELECT pmid, m.start AS start, m."end" AS "end", m.text AS text, m.entity_type AS entity_type,
       m.score AS score, m.grade AS grade, m.sentence AS sentence, m.identifier AS identifier
FROM (SELECT pmid, unnest(mentions) AS m FROM annotations)
"""


def open_views(
    root: str, as_of: str | None = None, unlocked: bool = False
) -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory with views ``annotations``, ``mentions``, ``annotators`` and ``runs``, and
    ``files`` once a file was taken in.

    ``mentions`` has one row per mention: ``pmid``, then the fields of a mention. ``as_of`` is a
    version of ``annotations`` or a time: those two views are as they were then. ``failures`` and
    ``rollouts`` are there once there are any. Queries can read these views and nothing else, see
    lock.py, unless it is ``unlocked``.

    Raises:
        UsageError: if ``root`` holds no tables of pubmark, or nothing of that time any more.
    """
    store = Store(root)
    db = connect()
    for name in (*TABLES, "files", "failures", "rollouts"):
        table = store.load() if name == "annotations" else store.find(name)
        if table is None:
            if name in TABLES:  # a companion that is missing is empty
                db.register(name, TABLES[name].empty_table())
            continue
        if name == "annotations" and as_of is not None:
            go_back(table, as_of)
        db.register(name, open_dataset(table))
        if not all(is_ours(file.path) for file in stored_files(table)):
            # Such as delta-rs writes view types, which Arrow does not filter: DuckDB is to filter
            # what it has read, at the cost of reading more.
            db.execute("SET disabled_optimizers = 'filter_pushdown'")
    db.execute(MENTIONS_VIEW)
    if not unlocked:
        lock(db)
    return db


def go_back(table: DeltaTable, as_of: str) -> None:
    """Bring a table to a version (a number) or a time (ISO 8601, in UTC unless it says otherwise).

    Raises:
        UsageError: if there was none then, or its files were deleted since.
    """
    newest = table.version()
    now = set(table.file_uris())
    try:
        moment = int(as_of) if as_of.isdigit() else datetime.fromisoformat(as_of)
    except ValueError as e:
        raise UsageError(
            f"as of {as_of!r}: expected a version or a time such as 2026-03-01T12:00"
        ) from e
    if isinstance(moment, datetime) and moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        if isinstance(moment, int) and moment > newest:
            raise UsageError(f"as of {as_of}: the newest version is {newest}")
        version = moment if isinstance(moment, int) else version_at(table, moment)
        if version is None:
            raise UsageError(f"as of {as_of}: {table.table_uri} did not exist, or its log was cut")
        table.load_as_version(version)
    except (DeltaError, OSError) as e:
        raise UsageError(f"as of {as_of}: {table.table_uri} cannot be read: {e}") from e
    fs = filesystem(table)
    paths = {f.path for f in stored_files(table)}
    gone = [
        i.path for i in fs.get_file_info(sorted(paths)) if i.type == FileType.NotFound
    ] if set(table.file_uris()) - now else []  # fmt: skip
    if gone:
        raise UsageError(
            f"as of {as_of}: {len(gone)} of the {len(paths)} files of version {table.version()} "
            "were deleted since (pubmark vacuum)"
        )
