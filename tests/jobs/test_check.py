"""What a job needs, looked at before it is started."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from typer.testing import CliRunner

from engine.tables.probe import _clock_off
from jobs.cli import app

pytestmark = pytest.mark.usefixtures("ray_session")

FAKE = "fake_backend:FakeBackend"


def check(*told: str) -> tuple[int, dict[str, dict[str, Any]]]:
    result = CliRunner().invoke(app, ["check", *told, "--json"])
    findings = json.loads(result.stdout)["findings"]
    return result.exit_code, {f["what"]: f for f in findings}


def test_all_is_well_and_nothing_is_left(tmp_path: Path, write_jsonl: Callable[..., str]) -> None:
    source, to = write_jsonl([(1, "Aspirin", "")]), tmp_path / "t"
    code, found = check(source, "--to", str(to), "--backend", FAKE)
    assert code == 0 and all(f["ok"] for f in found.values())
    assert list(found) == [
        "versions", "disk", "source", "target", "writing", "checkpoint", "engines",
    ]  # fmt: skip
    assert found["source"]["said"] == "1 file, citations.jsonl"
    assert found["target"]["said"] == "no table yet"
    assert "commits are conditional" in found["writing"]["said"]
    assert "marks disease, chemical, gene" in found["checkpoint"]["said"]
    assert "1 engine of 1 CPU each, 256 prompts at once" in found["engines"]["said"]
    assert list(to.rglob("*")) == []
    told = CliRunner().invoke(app, ["check", source, "--backend", FAKE]).stdout
    assert "ok   source      1 file, citations.jsonl" in told


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "t").mkdir()
    DeltaTable.create(str(tmp_path / "t"), pa.schema([pa.field("x", pa.int64())]))
    told = ["--to", str(tmp_path / "t"), "--checkpoint", "nowhere/at-all", "--backend", FAKE]
    code, found = check(str(tmp_path / "empty.jsonl"), *told)
    assert code == 2
    wrong = {what: f["said"] for what, f in found.items() if not f["ok"]}
    assert wrong.keys() == {"source", "target", "checkpoint"}
    assert "empty.jsonl: is empty" in wrong["source"]
    assert "is a Delta table itself" in wrong["target"]
    assert "nowhere/at-all" in wrong["checkpoint"]


def test_an_engine_that_fits_nowhere_is_said(tmp_path: Path) -> None:
    code, found = check("--backend", FAKE, "--context-tokens", "100")
    assert code == 2 and "context_tokens 100" in found["engines"]["said"]


def test_a_clock_that_is_off_shows_in_what_was_written(tmp_path: Path) -> None:
    began = time.time()
    DeltaTable.create(str(tmp_path / "t"), pa.schema([pa.field("x", pa.int64())]))
    assert abs(_clock_off(str(tmp_path / "t"), began)) < 2
    entry = tmp_path / "t/_delta_log" / f"{0:020}.json"
    for off in (900, -900):
        os.utime(entry, (began + off, began + off))
        assert _clock_off(str(tmp_path / "t"), began) == pytest.approx(off, abs=5)
