"""The log of a table, read commit by commit."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import fill

from engine.tables import commits
from engine.tables.commits import last_run, read_log, version_at
from engine.tables.store import Store
from schemas.errors import JobError

NEVER = datetime(2020, 1, 1, tzinfo=UTC)


def commit_file(store: Store, version: int) -> Path:
    return Path(store.root) / f"annotations/_delta_log/{version:020}.json"


def set_times(store: Store, minutes: dict[int, int | None]) -> None:
    """Let commits say that they were made so many minutes after NEVER, or nothing of that."""
    for version, minute in minutes.items():
        file = commit_file(store, version)
        actions = [json.loads(line) for line in file.read_text().splitlines()]
        for notes in (a["commitInfo"] for a in actions if "commitInfo" in a):
            notes.pop("timestamp", None)
            if minute is not None:
                at = NEVER + timedelta(minutes=minute)
                notes["timestamp"] = round(at.timestamp() * 1000)
        file.write_text("\n".join(map(json.dumps, actions)))


def at(minute: int) -> datetime:
    return NEVER + timedelta(minutes=minute)


def test_the_last_commit_comes_first(store: Store) -> None:
    for pmid in range(150):  # more than are read at once
        fill(store, [pmid])
    entries = list(read_log(store.load()))
    assert [e.version for e in entries] == list(range(150, -1, -1))
    assert all(a.time and b.time and a.time >= b.time for a, b in pairwise(entries))
    assert entries[0].notes["operation"] == "WRITE"


def test_it_says_what_delta_rs_says(store: Store) -> None:
    fill(store, [1], [2])
    theirs = store.load().history()
    ours = list(read_log(store.load()))
    assert [e.version for e in ours] == [h["version"] for h in theirs]
    stamps = [round(e.time.timestamp() * 1000) if e.time else None for e in ours]
    assert stamps == [h["timestamp"] for h in theirs]


def test_a_log_that_was_cut_ends_there(store: Store) -> None:
    fill(store, [1], [2], [3])
    table = store.load()
    for version in (0, 1):
        commit_file(store, version).unlink()
    assert [e.version for e in read_log(table)] == [3, 2]
    assert version_at(table, NEVER) is None
    assert version_at(table, datetime.now(UTC)) == 3


def test_a_log_without_its_newest_commit_is_no_empty_history(store: Store) -> None:
    fill(store, [1])
    table = store.load()
    commit_file(store, 1).unlink()
    with pytest.raises(JobError, match="lacks its version 1"):
        list(read_log(table))


def test_a_log_that_is_damaged_is_an_error(store: Store) -> None:
    fill(store, [1])
    table = store.load()
    commit_file(store, 1).write_text('{"commitInfo": {"timest')
    with pytest.raises(JobError, match=r"annotations.*cannot be read"):
        list(read_log(table))
    with pytest.raises(JobError, match=r"annotations.*cannot be read"):
        version_at(table, datetime.now(UTC))


def test_of_a_large_commit_the_notes_are_read_wherever_they_stand(store: Store) -> None:
    fill(store, [1])
    file = commit_file(store, 1)
    actions = file.read_text().splitlines()
    padding = json.dumps({"txn": {"appId": "x" * 200_000, "version": 1}})
    file.write_text("\n".join([padding, *reversed(actions)]))
    newest = next(iter(read_log(store.load())))
    assert newest.time and newest.notes["operation"] == "WRITE"


def test_commits_that_do_not_say_when_count_with_the_one_before(store: Store) -> None:
    fill(store, [1], [2], [3])
    set_times(store, {0: 0, 1: 10, 2: None, 3: None})
    table = store.load()
    assert version_at(table, at(9)) == 0
    assert version_at(table, at(10)) == 3


def test_the_last_run(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "t #1?"))
    store.create()
    assert last_run(store.load()) is None
    fill(store, [1], run_id="first")
    fill(store, [2], run_id="second")
    assert last_run(store.load()) == "second"


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store(str(tmp_path_factory.mktemp("log") / "t"))
    store.create()
    fill(store, *([pmid] for pmid in range(20)))
    yield store


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.integers(0, 3), min_size=21, max_size=21), minute=st.integers(-1, 40))
def test_a_time_finds_the_newest_version_that_was_there(
    long: Store, steps: list[int], minute: int
) -> None:
    times = [sum(steps[: i + 1]) for i in range(21)]
    set_times(long, dict(enumerate(times)))
    expected = max((v for v, t in enumerate(times) if t <= minute), default=None)
    assert version_at(long.load(), at(minute)) == expected


def test_a_time_is_found_in_few_commits(long: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    set_times(long, {v: v for v in range(21)})
    table, asked = long.load(), []
    read = commits._read
    monkeypatch.setattr(commits, "_read", lambda fs, v: asked.append(v) or read(fs, v))
    assert version_at(table, at(13)) == 13
    assert len(asked) <= 6
