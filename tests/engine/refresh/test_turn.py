"""A turn's parts that need no engine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.checkpoints.load import Checkpoint
from engine.refresh import turn as module
from engine.refresh.fetch import Fetched
from engine.refresh.turn import RefreshResult, Turn
from engine.runs.figures import Reporter
from engine.steps.annotator import make_annotator
from engine.tables.ledger import Ledger
from engine.tables.store import Store
from schemas.configs.refresh import RefreshConfig


@pytest.fixture
def turn(tmp_path: Path, nano: Checkpoint) -> Turn:
    config = RefreshConfig(to=str(tmp_path / "t"), sources=[str(tmp_path / "in")])
    store, candidate = Store(config.to), make_annotator(nano, nano.manifest.task)
    (tmp_path / "in").mkdir()
    return Turn(config, store, candidate, RefreshResult("r"), Reporter(), verbose=False)


def files(folder: Path, *names: str) -> None:
    for name in names:
        (folder / "in" / name).write_text(name)


def test_without_files_and_without_a_table_nothing_is_done(turn: Turn, tmp_path: Path) -> None:
    turn.take()
    assert turn._result.outcome == "nothing to do" and turn._result.exit_code() == 3
    assert "holds no file to read" in turn._result.problems[0]
    assert not (tmp_path / "t").exists()


def test_what_was_fetched_before_an_interrupt_is_told(
    turn: Turn, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = Fetched(2, problems=["mirror a: HTTP 404"], interrupted=True)
    monkeypatch.setattr(module, "fetch", lambda part: fetched)
    with pytest.raises(KeyboardInterrupt):
        turn.take()
    assert (turn._result.fetched, turn._result.problems) == (2, ["mirror a: HTTP 404"])


def test_a_new_baseline_counts_once_all_its_files_are_there(turn: Turn, tmp_path: Path) -> None:
    ledger = Ledger(turn._store, None)
    files(tmp_path, "pubmed25n0001.xml", "pubmed26n0001.xml", "pubmed26n0003.xml", "a.xml")
    shards, baseline_files = turn._new_shards(ledger, (26, 3))
    assert (len(shards), baseline_files) == (4, None)
    assert turn._result.problems == ["the baseline of year 26 waits for 1 files, the first 0002"]
    files(tmp_path, "pubmed26n0002.xml")
    shards, baseline_files = turn._new_shards(ledger, (26, 3))
    assert baseline_files == 3 and [s.name for s in shards] == [
        "pubmed26n0001.xml", "pubmed26n0002.xml", "pubmed26n0003.xml", "a.xml"
    ]  # fmt: skip
    assert turn._new_shards(ledger, None)[1] is None
    assert turn._new_shards(ledger, (26, 4))[1] is None  # the last file is not there yet
    turn._config = turn._config.model_copy(update={"baseline": False})
    shards, baseline_files = turn._new_shards(ledger, (26, 3))
    assert (len(shards), baseline_files) == (5, None)


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (RefreshResult("r"), 0),
        (RefreshResult("r", "held", "another"), 0),
        (RefreshResult("r", "done", problems=["a"]), 3),
        (RefreshResult("r", "interrupted", problems=["a"]), 130),
    ],
)
def test_exit_codes(result: RefreshResult, code: int) -> None:
    assert result.exit_code() == code


def test_the_keys_of_the_json() -> None:
    assert list(RefreshResult("r").summary()) == [
        "run_id", "outcome", "holder", "fetched", "files", "annotated", "revised", "deleted",
        "partial", "failed", "remade", "gate", "rollout", "compacted", "vacuumed", "problems",
        "seconds",
    ]  # fmt: skip


def test_of_an_object_store_the_lock_is_taken_only_if_something_is_due(
    turn: Turn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, worked = [], []

    @contextmanager
    def lock() -> Iterator[None]:
        taken.append(len(turn._result.problems))
        files(tmp_path, "pubmed26n0002.xml")  # another turn's while this one waited
        yield

    monkeypatch.setattr(turn, "_lock", lock)
    monkeypatch.setattr(turn, "_work", lambda: worked.append([s.name for s in turn._shards]))
    assert not turn._looks_first  # a disk asks nobody
    remote = turn._config.model_copy(update={"to": "s3://bucket/t"})
    assert Turn(remote, turn._store, turn._candidate, turn._result, Reporter(), False)._looks_first
    turn._looks_first = True
    turn.take()
    assert (taken, worked) == ([], []) and len(turn._result.problems) == 1
    turn._result.problems.clear()
    files(tmp_path, "pubmed26n0001.xml")
    turn.take()
    assert taken == [0] and worked == [["pubmed26n0001.xml", "pubmed26n0002.xml"]]
