"""The history of runs, from their rows and from the log."""

from datetime import UTC, datetime, timedelta

import pytest
from tables import fill

from engine.tables.store import Store
from engine.views import history
from engine.views.history import past_runs
from schemas.annotations import RUNS_SCHEMA

NOW = datetime.now(UTC)


def record(store: Store, run_id: str, started_at: datetime) -> None:
    row = dict.fromkeys(RUNS_SCHEMA.names) | {"run_id": run_id, "started_at": started_at}
    store.append("runs", [row])


@pytest.fixture
def filled(store: Store) -> Store:
    """Runs of days ago as far as their rows say; their commits are of now."""
    fill(store, [1], run_id="old")
    record(store, "old", NOW - timedelta(days=3))
    fill(store, [2], run_id="crashed")
    fill(store, [3], run_id="new")
    fill(store, [4], run_id="new")
    record(store, "new", NOW - timedelta(days=1))
    return store


def test_runs_with_and_without_a_row(filled: Store) -> None:
    runs = past_runs(filled)
    assert [r.run_id for r in runs] == ["crashed", "new", "old"]
    assert [r.versions for r in runs] == [[2], [3, 4], [1]]
    assert [r.changes["new"] for r in runs] == [1, 2, 1]
    assert [r.counts is None for r in runs] == [True, False, False]


def test_the_last_runs_alone(filled: Store) -> None:
    assert [r.run_id for r in past_runs(filled, 1)] == ["crashed"]
    assert [r.run_id for r in past_runs(filled, 2)] == ["crashed", "new"]
    assert past_runs(filled, 10) == past_runs(filled)


def test_the_log_is_read_as_far_back_as_the_runs_asked_for(
    filled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(filled, "later", NOW + timedelta(hours=3))
    read = []
    whole = history.read_log

    def watched(table):  # type: ignore[no-untyped-def]
        for entry in whole(table):
            read.append(entry.version)
            yield entry

    monkeypatch.setattr(history, "read_log", watched)
    assert [r.run_id for r in past_runs(filled, 1)] == ["later"]
    assert read == [4]  # its time says that no more is of that run
    read.clear()
    assert len(past_runs(filled, 2)) == 2 and len(read) == 5
