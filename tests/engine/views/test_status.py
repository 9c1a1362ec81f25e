"""What goes on in a table, as its logs say."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from tables import rows

from engine.planning.settled import settled_pmids
from engine.tables.committer import Committer
from engine.tables.progress import NOTE, Progress
from engine.tables.store import Store
from engine.views.status import SILENT, Status, UnderWay, table_status
from jobs.status import StatusResult, describe
from schemas.annotations import RUNS_SCHEMA

START = datetime(2026, 1, 1, tzinfo=UTC)
SO_FAR = Progress("annotate", "a", START, 1000, 0, 0, 0, host="h1")


def commit(store: Store, run_id: str, pmids: list[int], progress: Progress) -> None:
    present = np.array([], np.int64)
    committer = Committer(
        store.load(), present, settled_pmids, store=store, run_id=run_id, notes=progress.notes
    )
    committer.commit(rows(pmids))


def table(run: UnderWay) -> Status:
    return Status(version=3, rows=700, changed_at=run.last[0], under_way=[run])


def after(minutes: float, done: int) -> tuple[datetime, Progress]:
    return START + timedelta(minutes=minutes), replace(SO_FAR, done=done)


def test_a_run_is_known_by_its_commits_until_it_has_ended(store: Store) -> None:
    commit(store, "one", [1, 2], replace(SO_FAR, done=2, by_engine={"h1-a": 2}))
    commit(store, "one", [3], replace(SO_FAR, done=3, failed=1, by_engine={"h1-a": 2, "h2-b": 1}))
    status = table_status(store)
    (run,) = status.under_way
    assert (run.run_id, run.first[1].done, run.last[1].done) == ("one", 2, 3)
    assert run.last[1].by_engine == {"h1-a": 2, "h2-b": 1} and run.last[1].started_at == START
    assert (status.rows, status.ended) == (3, None)
    ended = dict.fromkeys(RUNS_SCHEMA.names) | {
        "run_id": "one", "job": "annotate", "outcome": "done", "started_at": START,
        "annotated": 3, "failed": 1, "seconds": 61.0,
    }  # fmt: skip
    store.append("runs", [ended])
    status = table_status(store)
    assert status.under_way == [] and status.ended is not None
    told = describe(StatusResult("t", status))
    assert "no run is under way" in told
    assert "annotate one, done after 0:01:01, 3 annotated, 1 failed" in told


def test_staged_rows_are_work_done(store: Store) -> None:
    commit(store, "one", [1], replace(SO_FAR, done=1))
    notes = {"pubmark.run_id": "one", **replace(SO_FAR, done=7).notes()}
    store.append("staged", rows([1], text="new"), notes)
    (run,) = table_status(store).under_way
    assert (run.first[1].done, run.last[1].done) == (1, 7)


def test_what_other_programs_note_is_passed_over(store: Store) -> None:
    store.append("annotations", rows([1]), {"pubmark.run_id": "x", NOTE: "{"})
    store.append("annotations", rows([2]), {"pubmark.run_id": "y", NOTE: '{"later": 1}'})
    store.append("annotations", rows([3]), replace(SO_FAR).notes())
    assert table_status(store).under_way == []


@pytest.mark.parametrize(
    ("first", "last", "per_second", "seconds_left"),
    [
        (after(10, 400), after(20, 700), 0.5, 600.0),
        (after(10, 600), after(10, 600), 1.0, 400.0),  # one commit: since it started
        (after(10, 400), after(20, 400), None, None),
        (after(10, 400), after(15, 1000), 2.0, 0.0),
    ],
)
def test_rate_and_time_left(
    first: tuple[datetime, Progress],
    last: tuple[datetime, Progress],
    per_second: float | None,
    seconds_left: float | None,
) -> None:
    run = UnderWay("one", first, last)
    assert (run.per_second, run.seconds_left) == (per_second, seconds_left)
    now = last[0] + timedelta(seconds=30)
    told = describe(StatusResult("t", table(run), now))
    assert "last commit 30 s ago" in told and "it may be dead" not in told
    assert ("left from that commit on" in told) == (per_second is not None)
    late = describe(StatusResult("t", table(run), last[0] + SILENT + timedelta(seconds=1)))
    assert "nothing has been committed for 0:15:01: it may be dead" in late
