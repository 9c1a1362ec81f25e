"""What a query may do: read the views, and nothing else on the machine.

Enters: a DuckDB whose views are registered, and a query. Leaves: the same DuckDB, which opens no
file and no address, loads no extension and keeps its settings for good; and the query's
statements, checked. Left to others: the views (sql.py), which go on reading their tables, as
pyarrow opens those files and not DuckDB.

DuckDB gives a query every right of the process unless it is told otherwise. `Securing DuckDB
<https://duckdb.org/docs/stable/operations_manual/securing_duckdb/overview>`_ lists what to tell it.
"""

import duckdb

from schemas.errors import UsageError

UNLOCKED = (
    "the query may read the tables and nothing else; --unlocked lets it do all that DuckDB can"
)

_HARMLESS = frozenset({
    "SELECT", "EXPLAIN", "MULTI", "PRAGMA", "CALL", "PREPARE", "EXECUTE", "SET", "VARIABLE_SET",
    # In memory, and gone with the process.
    "CREATE", "CREATE_FUNC", "ALTER", "DROP", "INSERT", "UPDATE", "DELETE", "MERGE_INTO",
    "TRANSACTION", "ANALYZE", "VACUUM",
})  # fmt: skip
"""Kinds of statements that a locked DuckDB is asked at all. What is left of them that could reach a
file (``EXPLAIN ANALYZE COPY``, ``SET``) it refuses by itself; of the others, such as ``COPY`` and
``ATTACH``, it would allow some in its folder of temporary files."""


def lock(db: duckdb.DuckDBPyConnection) -> None:
    """Take from a DuckDB, for good, all but what is registered with it."""
    db.execute("SET autoload_known_extensions = false")
    db.execute("SET enable_external_access = false")
    db.execute("SET lock_configuration = true")


def execute(db: duckdb.DuckDBPyConnection, query: str) -> None:
    """Run the statements of a query; ``db`` then has the rows of the last.

    Raises:
        UsageError: if there is none, DuckDB does not accept one, or ``db`` is locked and one is
            of a kind that does more than read: then none is run.
    """
    try:
        query.encode()  # DuckDB's client takes what is no text for another type
        statements = db.extract_statements(query)
        locked = db.execute("SELECT current_setting('lock_configuration')").fetchone() == (True,)
        for statement in statements if locked else ():
            if (kind := _kind(statement)) not in _HARMLESS:
                raise UsageError(f"sql: {kind} is refused: {UNLOCKED}")
        for statement in statements:
            db.execute(statement)
    except (duckdb.Error, UnicodeError) as e:
        raise refusal(e) from e
    if not statements:
        raise UsageError("sql: there is no statement in the query")


def refusal(error: Exception) -> UsageError:
    """The error to raise for DuckDB's; it names --unlocked if that is what the query lacks."""
    refused = isinstance(error, duckdb.PermissionException) or "has been locked" in str(error)
    return UsageError(f"sql: {error}" + (f"\n{UNLOCKED}" if refused else ""))


def _kind(statement: duckdb.Statement) -> str:
    try:
        return str(statement.type.name)
    except ValueError:  # one that DuckDB's Python client has no name for, such as UPDATE EXTENSIONS
        return " ".join(statement.query.split()[:2]).upper()
