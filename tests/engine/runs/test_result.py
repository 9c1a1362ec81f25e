"""What a run's counts mean for its exit code, and what becomes of what made it fail."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest

from engine.runs.interrupts import Interrupts
from engine.runs.result import Run, RunResult, too_many_failed
from engine.tables.store import Store
from schemas.errors import JobError


@pytest.mark.parametrize(
    ("failed", "done", "share", "too_many"),
    [(0, 0, 0.0, False), (1, 100, 0.0, True), (1, 100, 0.01, False), (2, 100, 0.01, True),
     (1, 0, 0.5, True), (1, 1, 1.0, False)],
)  # fmt: skip
def test_more_may_not_fail_than_the_share(
    failed: int, done: int, share: float, too_many: bool
) -> None:
    assert too_many_failed(failed, done, share) is too_many


@pytest.mark.parametrize(
    ("counts", "strict", "max_failed", "code"),
    [
        ({"annotated": 10}, True, 0.0, 0),
        ({"annotated": 10, "failed": 1}, False, 0.0, 3),
        ({"annotated": 10, "failed": 1, "partial": 1}, False, 0.1, 3),
        ({"annotated": 10, "failed": 1, "partial": 1}, True, 0.2, 0),
        ({"damaged": 1}, False, 1.0, 3),
        ({"rejected": 1}, True, 1.0, 1),
        ({"damaged": 1, "outcome": "interrupted"}, True, 0.0, 130),
    ],
)
def test_exit_codes(counts: dict[str, int], strict: bool, max_failed: float, code: int) -> None:
    result = RunResult("r")
    for name, value in counts.items():
        setattr(result, name, value)
    assert result.exit_code(strict, max_failed) == code


def test_duckdb_that_runs_out_of_memory_is_a_failed_run(tmp_path: Path) -> None:
    nothing: Any = SimpleNamespace()  # what a run is of is not asked for
    run = Run(nothing, nothing, Store(str(tmp_path / "t")), Interrupts())
    db = duckdb.connect(config={"memory_limit": "3MB", "temp_directory": ""})
    with pytest.raises(JobError, match=r"run .*: Out of Memory Error"), run.recorded(lambda: None):
        db.execute("CREATE TABLE t AS SELECT repeat('x', 100) || i FROM range(1000000) r(i)")
    assert run.result.outcome == "failed"
