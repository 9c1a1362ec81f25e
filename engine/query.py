"""The tables as SQL views, in DuckDB, without any extension.

DuckDB scans what delta-rs says belongs to a table now, so replaced rows are never seen; columns
and row groups that a query does not need are not read.
"""

import duckdb

from engine.store import TABLES, Store, open_dataset

MENTIONS_VIEW = """
CREATE VIEW mentions AS
SELECT pmid, m.start AS start, m."end" AS "end", m.text AS text, m.entity_type AS entity_type,
       m.score AS score, m.grade AS grade, m.sentence AS sentence, m.identifier AS identifier
FROM (SELECT pmid, unnest(mentions) AS m FROM annotations)
"""


def open_views(root: str) -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory with views ``annotations``, ``mentions``, ``annotators`` and ``runs``, and
    ``files`` once a file was taken in.

    ``mentions`` has one row per mention: ``pmid``, then the fields of a mention.

    Raises:
        UsageError: if ``root`` holds no tables of pubmark.
    """
    store = Store(root)
    db = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    for name in (*TABLES, *(["files"] if store.has("files") else [])):
        db.register(name, open_dataset(store.load(name)))
    db.execute(MENTIONS_VIEW)
    return db
