"""``pubmark sql`` from the command line, on this disk and on an S3-compatible server."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from s3_server import BUCKET, s3_server
from tables import fill
from typer.testing import CliRunner

from engine.tables.store import Store
from jobs.cli import app

COUNT = "SELECT count(*) AS n FROM mentions"


def sql(query: str, root: str, *options: str) -> Result:
    return CliRunner().invoke(app, ["sql", query, "--from", root, *options])


@pytest.fixture
def root(tmp_path: Path) -> str:
    store = Store(str(tmp_path / "t"))
    store.create()
    fill(store, [1, 2])
    return store.root


def test_a_query_that_leaves_the_tables_is_exit_2(root: str, tmp_path: Path) -> None:
    target = tmp_path / "written.csv"
    for query in (f"COPY (SELECT 1) TO '{target}'", f"FROM read_text('{__file__}')"):
        done = sql(query, root)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "--unlocked" in done.stderr and "Traceback" not in done.stderr
    assert not target.exists()


def test_unlocked_it_writes_a_file(root: str, tmp_path: Path) -> None:
    target = tmp_path / "written.csv"
    done = sql(f"COPY (SELECT pmid FROM annotations) TO '{target}'", root, "--unlocked")
    assert done.exit_code == 0, done.stderr
    assert target.read_text().splitlines() == ["pmid", "1", "2"]


def test_locked_it_reads_a_table_on_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server(tmp_path) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        store = Store(f"s3://{BUCKET}/t")
        store.create()
        fill(store, [1, 2], [3])
        assert sql(COUNT, store.root).stdout == "n\n3\n"
        assert sql(COUNT, store.root, "--as-of", "1").stdout == "n\n2\n"
        shown = sql("SELECT * FROM annotations WHERE pmid = 3", store.root, "--format", "jsonl")
        assert json.loads(shown.stdout)["text"] == "x 3"
        refused = sql(f"FROM read_parquet('s3://{BUCKET}/t/annotations/*.parquet')", store.root)
        assert refused.exit_code == 2


ESCAPES = (
    "SELECT 'as' || chr(27) || '[31mpi' || chr(155) || '1m[red]rin' || chr(8238) AS \"a\x1bb\""
)


def test_a_table_holds_nothing_that_a_terminal_obeys(root: str) -> None:
    out = sql(ESCAPES, root, "--format", "table").stdout
    assert "as\ufffd[31mpi\ufffd1m[red]rin\ufffd" in out and "a\ufffdb" in out
    assert not {"\x1b", "\x9b", "\u202e"} & set(out)


def test_files_hold_what_was_stored(root: str) -> None:
    stored = "as\x1b[31mpi\x9b1m[red]rin\u202e"
    assert sql(ESCAPES, root).stdout == f"a\x1bb\n{stored}\n"
    line = sql(ESCAPES, root, "--format", "jsonl").stdout
    assert json.loads(line) == {"a\x1bb": stored} and line.isascii()


def test_an_error_holds_nothing_that_a_terminal_obeys(root: str) -> None:
    done = sql("SELECT '\x1b[31m' FROM nowhere\x9b", root)
    assert done.exit_code == 2 and "nowhere" in done.stderr
    assert not {"\x1b", "\x9b"} & set(done.stderr)


@pytest.mark.parametrize("environment", [
    {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
])  # fmt: skip
def test_a_stdout_that_is_not_utf_8(root: str, environment: dict[str, str]) -> None:
    code = (
        "import sys; from jobs.cli import app;"
        "[app(['sql', 'SELECT chr(946) AS x', '--from', sys.argv[1], '--format', f],"
        " standalone_mode=False) for f in ('csv', 'jsonl', 'table')];"
        "app(['show', '1', '--from', sys.argv[1]], standalone_mode=False);"
        "app(['history', '--from', sys.argv[1]], standalone_mode=False)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, root], capture_output=True, env=os.environ | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode("ascii", "replace").splitlines()
    assert lines[:3] == ["x", "\\u03b2", '{"x": "\\u03b2"}']
