"""A locked DuckDB reads its views and nothing else."""

import gc
from pathlib import Path

import duckdb
import pandas
import pyarrow as pa
import pytest
from tables import fill

from engine.storage.duck import connect
from engine.tables.store import Store
from engine.views import lock
from engine.views.sql import open_views
from schemas.errors import UsageError

visible_to_python = pa.table({"secret": ["module"]})

READING = [
    "SELECT * FROM read_csv('{file}')",
    "SELECT * FROM read_csv(['{file}', '{file}'])",
    "SELECT * FROM read_text('{file}')",
    "SELECT * FROM read_blob('{file}')",
    "SELECT * FROM read_json_auto('{file}')",
    "SELECT * FROM read_parquet('{parquet}')",
    "SELECT * FROM parquet_metadata('{parquet}')",
    "SELECT * FROM parquet_schema('{parquet}')",
    "SELECT * FROM '{parquet}'",
    'FROM "{parquet}"',
    "SELECT * FROM 'file://{parquet}'",
    "SELECT * FROM sniff_csv('{file}')",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM glob('{temporary}/../*')",
    "SELECT * FROM read_text('{temporary}/../{up}{file}')",
    "SELECT * FROM query('FROM read_text(''{file}'')')",
    "SELECT * FROM query_table('{parquet}')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('FROM read_text(''{file}'')'))",
    "WITH a AS MATERIALIZED (FROM read_text('{file}')) SELECT * FROM a",
    "CREATE VIEW v AS FROM read_text('{file}'); SELECT * FROM v",
    "CREATE MACRO m() AS TABLE FROM read_text('{file}'); FROM m()",
    "CREATE TABLE c (x TEXT); COPY c FROM '{file}'",
    "INSERT INTO annotations FROM read_text('{file}')",
    "PREPARE p AS FROM read_text('{file}'); EXECUTE p",
    "SUMMARIZE '{parquet}'",
    "DESCRIBE '{parquet}'",
    "IMPORT DATABASE '{folder}'",
    "SELECT * FROM read_csv('http://127.0.0.1:9/x.csv')",
    "SELECT * FROM read_parquet('s3://bucket/x.parquet')",
    "SELECT getenv('HOME')",
    "SELECT * FROM visible_to_python",
    "SELECT * FROM local_to_python",
    "SELECT * FROM table",
    "SELECT * FROM store",
]
WRITING = [
    "COPY (SELECT 1) TO '{new}'",
    "COPY (SELECT 1) TO '{new}' (FORMAT parquet)",
    "COPY (SELECT 1 AS pmid) TO '{parquet}' (FORMAT parquet)",
    "COPY annotations TO '{new}' (FORMAT json)",
    "COPY (SELECT 1) TO '{temporary}/x.csv'",
    "SELECT 1; COPY (SELECT 1) TO '{new}'",
    "/* ; */ COPY (SELECT 1) TO '{new}' -- SELECT",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{new}'",
    "PREPARE p AS COPY (SELECT 1) TO '{new}'; EXECUTE p",
    "EXPORT DATABASE '{new}'",
    "ATTACH '{new}' AS other",
    "ATTACH '{temporary}/x.db' AS other",
    "ATTACH ':memory:' AS other",
    "COPY FROM DATABASE memory TO other",
    "PRAGMA profiling_output = '{new}'",
    "PRAGMA enable_profiling = 'json'",
    "CALL enable_logging(storage = 'file', storage_path = '{new}')",
    "CALL enable_profiling(save_location = '{new}')",
    "CREATE PERSISTENT SECRET s (TYPE http, bearer_token 'x')",
]
SETTING = [
    "INSTALL httpfs",
    "FORCE INSTALL httpfs FROM 'http://127.0.0.1:9'",
    "LOAD httpfs",
    "LOAD '{new}.duckdb_extension'",
    "UPDATE EXTENSIONS",
    "SET enable_external_access = true",
    "SET GLOBAL enable_external_access = true",
    "RESET enable_external_access",
    "SET allowed_directories = ['/']",
    "SET allowed_paths = ['{file}']",
    "SET lock_configuration = false",
    "SET python_enable_replacements = true",
    "SET python_scan_all_frames = true",
    "SET temp_directory = '{folder}'",
    "SET memory_limit = '1TB'",
    "SET threads = 1",
    "SET file_search_path = '{folder}'",
    "SET home_directory = '{folder}'",
    "PRAGMA threads = 1",
]


@pytest.fixture
def words(store: Store, tmp_path: Path) -> dict[str, str]:
    fill(store, [1, 2])
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "file.csv").write_text("very,secret\n1,2\n")
    return {
        "file": str(folder / "file.csv"),
        "parquet": store.load().file_uris()[0],
        "folder": str(folder),
        "new": str(folder / "new"),
        "up": "../" * 12,
    }


@pytest.mark.parametrize("query", [*READING, *WRITING, *SETTING])
def test_what_a_query_may_not_do(store: Store, words: dict[str, str], query: str) -> None:
    local_to_python = pandas.DataFrame({"secret": ["local"]})
    db = open_views(store.root)
    row = db.execute("SELECT current_setting('temp_directory')").fetchone()
    assert row is not None and len(local_to_python) == 1
    before = {p: p.read_bytes() for p in Path(store.root).parent.rglob("*") if p.is_file()}
    with pytest.raises(UsageError, match=r"^sql: "):
        lock.execute(db, query.format(**words, temporary=row[0]))
    assert not list(Path(row[0]).iterdir())
    assert before == {p: p.read_bytes() for p in Path(store.root).parent.rglob("*") if p.is_file()}
    lock.execute(db, "SELECT count(*) FROM annotations")
    assert db.fetchone() == (2,)


@pytest.mark.parametrize("query", [READING[0], WRITING[0], SETTING[0], "SET threads = 1"])
def test_the_way_out_is_named(store: Store, words: dict[str, str], query: str) -> None:
    with pytest.raises(UsageError, match="--unlocked"):
        lock.execute(open_views(store.root), query.format(**words))


def test_none_of_the_statements_is_run_if_one_is_refused(store: Store) -> None:
    db = open_views(store.root)
    with pytest.raises(UsageError, match="ATTACH is refused"):
        lock.execute(db, "CREATE TABLE made (i INT); ATTACH ':memory:' AS x")
    assert ("made",) not in db.execute("SHOW TABLES").fetchall()


@pytest.mark.parametrize("query", [
    "SELECT count(*) FROM annotations",
    "FROM annotations SELECT count(*)",
    "WITH a AS (SELECT * FROM annotations) SELECT count(*) FROM a",
    "CREATE TEMP TABLE kept AS SELECT * FROM annotations; SELECT count(*) FROM kept",
    "SET VARIABLE lowest = 0; SELECT count(*) FROM annotations WHERE pmid > getvariable('lowest')",
    "PREPARE p AS SELECT count(*) FROM annotations; EXECUTE p",
    "SELECT count(*) FROM mentions WHERE regexp_matches(text, '^x') AND score IS NULL",
    "SELECT max(rn) FROM (SELECT row_number() OVER (ORDER BY pmid) AS rn FROM annotations)",
    "SELECT json_array_length(to_json(list(pmid))) FROM annotations",
    "SELECT 2 FROM runs RIGHT JOIN (SELECT 1) ON true;  -- with a remark\n;",
])  # fmt: skip
def test_what_a_query_may_do(store: Store, query: str) -> None:
    fill(store, [1, 2])
    db = open_views(store.root)
    lock.execute(db, query)
    assert db.fetchone() == (2,)


@pytest.mark.parametrize("query", [
    "DESCRIBE annotations", "SUMMARIZE annotations", "SHOW TABLES", "EXPLAIN SELECT 1",
    "EXPLAIN ANALYZE SELECT * FROM mentions", "PRAGMA table_info('annotations')",
    "PIVOT mentions ON entity_type USING count(*)",
])  # fmt: skip
def test_what_tells_of_the_views(store: Store, query: str) -> None:
    fill(store, [1, 2])
    db = open_views(store.root)
    lock.execute(db, query)
    assert db.fetchall()


@pytest.mark.parametrize("query", ["", " ; ", "-- nothing", "SELECT \udcff", "SELECT 'a\0b' AS"])
def test_what_is_no_query(store: Store, query: str) -> None:
    with pytest.raises(UsageError, match=r"^sql: "):
        lock.execute(open_views(store.root), query)


def test_unlocked_it_does_all_that_duckdb_can(store: Store, words: dict[str, str]) -> None:
    db = open_views(store.root, unlocked=True)
    lock.execute(db, "COPY (SELECT 7 AS x) TO '{new}'".format(**words))
    lock.execute(db, "SET threads = 1; SELECT x FROM read_csv('{new}')".format(**words))
    assert db.fetchone() == (7,)
    with pytest.raises(UsageError, match="visible_to_python"):  # our own variables, never
        lock.execute(db, "SELECT * FROM visible_to_python")


WIDE = """CREATE TEMP TABLE wide AS
    SELECT repeat(i::VARCHAR, 20) AS s FROM range(700000) t(i) ORDER BY s"""


def test_what_does_not_fit_into_memory_goes_to_a_folder_of_its_own() -> None:
    db = connect()
    db.execute("SET memory_limit = '60MB'; SET threads = 1")
    lock.lock(db)
    row = db.execute("SELECT current_setting('temp_directory')").fetchone()
    assert row is not None
    folder = Path(row[0])
    assert folder.stat().st_mode & 0o777 == 0o700
    lock.execute(db, WIDE)
    assert list(folder.iterdir())
    lock.execute(db, "SELECT count(*) FROM wide")
    assert db.fetchone() == (700_000,)
    del db
    gc.collect()
    assert not folder.exists()


def test_where_no_folder_can_be_made_a_query_still_runs(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, [1])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    db = open_views(store.root)
    lock.execute(db, "SELECT count(*) FROM annotations")
    assert db.fetchone() == (1,)
    with pytest.raises(UsageError):
        lock.execute(db, f"FROM read_text('{__file__}')")


def test_without_such_a_folder_memory_runs_out() -> None:
    """The query of the test above does need it."""
    db = duckdb.connect(config={"temp_directory": "", "memory_limit": "60MB", "threads": "1"})
    with pytest.raises(duckdb.OutOfMemoryException):
        db.execute(WIDE)
