"""What a run's counts mean for its exit code."""

import pytest

from engine.runs.result import RunResult, too_many_failed


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
