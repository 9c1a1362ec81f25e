"""DuckDB in memory, apart from what the user's own DuckDB has.

Enters: nothing. Leaves: a connection. Left to others: what is registered with it, and what it may
do (views/lock.py).
"""

import shutil
import tempfile
import weakref
from contextlib import suppress

import duckdb


def connect() -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory that knows none of this process's variables, and none of the extensions
    and secrets that lie in the user's home.

    What does not fit into memory goes to a folder of its own within TMPDIR, which is deleted with
    the connection. Where no folder can be made, all has to fit.
    """
    folder = ""
    with suppress(OSError):
        folder = tempfile.mkdtemp(prefix="pubmark-sql-")
    db = duckdb.connect(
        config={
            "temp_directory": folder,
            "autoinstall_known_extensions": "false",
            "allow_persistent_secrets": "false",
        }
    )
    if folder:
        weakref.finalize(db, shutil.rmtree, folder, ignore_errors=True)
    db.execute("SET python_enable_replacements = false")
    return db
