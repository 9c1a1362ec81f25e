"""Tables in folders of awkward names: every command that reads or tidies them finds them."""

import json
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import Result
from s3_server import BUCKET, s3_server
from tables import fill
from typer.testing import CliRunner

from engine.tables.store import Store
from jobs.cli import app

NAMES = ["#", "what?", "sp  ace {é 日本 😀} quo'te\"s 100% a&b=c+d;e,f star* $(x) `y` a:b <z> ~ "]


def pubmark(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def look(root: str, export_to: Path) -> None:
    """All that the commands say of a table at its third version, with the PMIDs 1, 2 and 3."""

    def out(*arguments: str | Path) -> str:
        done = pubmark(*arguments)
        assert done.exit_code == 0, done.output
        return done.stdout

    count = "SELECT count(*) AS n FROM mentions"
    assert out("sql", count, "--from", root) == "n\n3\n"
    assert out("sql", count, "--from", root, "--as-of", "1") == "n\n2\n"
    now = datetime.now(UTC).isoformat()
    assert out("sql", count, "--from", root, "--as-of", now) == "n\n3\n"
    (run,) = json.loads(out("history", "--from", root, "--json"))["runs"]
    assert run["versions"] == [1, 2] and run["changes"]["new"] == 3
    assert json.loads(out("show", "2", "--from", root, "--json"))["text"] == "x 2"
    out("export", "--from", root, "--to", export_to, "--format", "jsonl")
    assert len(export_to.read_text().splitlines()) == 3
    assert json.loads(out("optimize", "--to", root, "--json"))["files_after"] == 1
    assert json.loads(out("vacuum", "--to", root, "--json"))["files"]["annotations"] == 0
    assert out("sql", count, "--from", root) == "n\n3\n"


def make(root: str) -> None:
    store = Store(root)
    store.check()
    store.create()
    fill(store, [1, 2], [3], run_id="first")


@pytest.mark.parametrize("name", NAMES)
def test_a_path(tmp_path: Path, name: str) -> None:
    make(str(tmp_path / name))
    look(str(tmp_path / name), tmp_path / "out")
    assert (tmp_path / name / "annotations/_delta_log").is_dir()


@pytest.mark.parametrize("encode", [True, False])
@pytest.mark.parametrize("name", ["pub #1? é {}"])
def test_a_file_uri(tmp_path: Path, name: str, encode: bool) -> None:
    root = f"file://{tmp_path}/{quote(name) if encode else name}"
    make(root)
    look(root, tmp_path / "out")
    assert (tmp_path / name / "annotations/_delta_log").is_dir()


@pytest.mark.slow
def test_on_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server(tmp_path) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        for number, name in enumerate(["sp ace", "pub%231", "{é}", "100%"]):
            make(f"s3://{BUCKET}/{name}")
            look(f"s3://{BUCKET}/{name}", tmp_path / f"out{number}")


@pytest.mark.parametrize("name", ["back\\slash", "new\nline", "a[1]", "a%20b", ""])
def test_what_delta_does_not_take_is_exit_2(tmp_path: Path, name: str) -> None:
    root = str(tmp_path / name) if name else ""
    for command in (
        ["sql", "SELECT 1", "--from", root],
        ["history", "--from", root],
        ["show", "1", "--from", root],
        ["export", "--from", root, "--to", str(tmp_path / "out"), "--format", "jsonl"],
        ["optimize", "--to", root],
        ["vacuum", "--to", root],
    ):
        done = pubmark(*command)
        assert done.exit_code == 2, (command, done.output)
        assert "expected" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
