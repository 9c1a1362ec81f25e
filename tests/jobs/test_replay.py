"""What failed is kept with its output, and done again from the stored texts."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deltalake import DeltaTable
from rollout_backend import make_checkpoint

from engine.checkpoints.load import load_checkpoint
from engine.planning.settled import settled_pmids
from engine.runs.cluster import connected
from engine.tables.committer import Committer
from engine.tables.layout.files import NO_PMIDS
from engine.tables.store import Store
from jobs.annotate import run as annotate
from jobs.compare import run as compare
from jobs.history import run as past
from jobs.replay import describe, run
from jobs.sql import run as sql
from schemas.configs.annotate import AnnotateConfig, ReplayConfig
from schemas.configs.evaluate import CompareConfig
from schemas.configs.tables import HistoryConfig, SqlConfig
from schemas.errors import UsageError

BACKEND = "rollout_backend:RolloutBackend"
Writer = Callable[..., str]

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Path:
    """A table of two good citations, one failed, one in part; the source is gone."""
    folder = tmp_path_factory.mktemp("replay")
    once = folder / "once"
    source = folder / "a.jsonl"
    titles = ["Use of aspirin", f"RAISES={once}= aspirin", "It FAILS", "Use of metformin"]
    abstract = {3: "Not so cancer."}
    lines = (
        json.dumps({"pmid": p, "title": t, "abstract": abstract.get(p, "")})
        for p, t in enumerate(titles, 1)
    )
    source.write_text("\n".join(lines))
    checkpoint = make_checkpoint(folder, "old")
    annotate(
        AnnotateConfig(
            sources=[str(source)], to=str(folder / "t"), backend=BACKEND, checkpoint=str(checkpoint)
        )
    )
    source.unlink()
    return folder


@pytest.fixture
def table(folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(folder / "t", tmp_path / "t")
    return tmp_path / "t"


def rows(to: Path) -> dict[int, dict[str, Any]]:
    return {r["pmid"]: r for r in DeltaTable(to / "annotations").to_pyarrow_table().to_pylist()}


def replay(to: Path, **options: Any) -> Any:
    return run(ReplayConfig.model_validate({"to": str(to), "backend": BACKEND} | options))


def test_a_failure_keeps_its_stage_reason_and_place(table: Path) -> None:
    kept = DeltaTable(table / "failures").to_pyarrow_table().to_pylist()
    assert len(kept) == 2
    title = next(f for f in kept if f["pmid"] == 3)
    assert (title["stage"], title["reason"]) == ("generate", "ValueError: told to fail")
    assert (title["start"], title["end"]) == (0, 8)
    assert title["entity_types"] == ["disease", "chemical", "gene"]
    assert title["run_id"] == rows(table)[3]["run_id"]
    found = sql(
        SqlConfig(
            query="SELECT count(*) FROM failures JOIN annotations USING (pmid, run_id)",
            source=str(table),
        )
    )
    assert list(found.rows) == [(2,)]


def test_replay_does_again_what_failed_and_history_says_so(table: Path, folder: Path) -> None:
    before = rows(table)
    assert replay(table, reason="no such reason").found == 0
    assert replay(table, dry_run=True).found == 2 and rows(table) == before
    (folder / "once").touch()
    result = replay(table, reason="TOLD to fail")
    after = rows(table)
    assert (result.found, result.run.annotated, result.exit_code(0.0)) == (2, 2, 3)
    assert [after[i]["status"] for i in (1, 2, 3, 4)] == ["ok", "ok", "partial", "ok"]
    assert {i: after[i] for i in (1, 4)} == {i: before[i] for i in (1, 4)}
    assert "1 well now, 1 in part, 0 failed" in describe(result, "t")
    runs = past(HistoryConfig(source=str(table))).runs
    assert [(r.job, r.changes["new"], r.changes["replaced"]) for r in runs] == [
        ("replay", 0, 2), ("annotate", 4, 0)
    ]  # fmt: skip
    first = runs[1].versions[-1]
    for as_of, statuses in ((str(first), [("failed", 1), ("ok", 2), ("partial", 1)]),
                            (None, [("ok", 3), ("partial", 1)])):  # fmt: skip
        query = "SELECT status, count(*) FROM annotations GROUP BY 1 ORDER BY 1"
        found = sql(SqlConfig(query=query, source=str(table), as_of=as_of))
        assert list(found.rows) == statuses


def test_a_row_that_is_deleted_while_the_cluster_starts_is_left_out(
    table: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def slowly(verbose: bool) -> Iterator[None]:
        committer = Committer(Store(str(table)).load(), NO_PMIDS, settled_pmids)
        committer.finish(gone=np.array([3]))
        with connected(verbose):
            yield

    (folder / "once").touch()
    monkeypatch.setattr("jobs.replay.connected", slowly)
    result = replay(table)
    assert (result.found, result.run.annotated, result.exit_code(0.0)) == (1, 1, 0)
    assert {i: r["status"] for i, r in rows(table).items()} == {1: "ok", 2: "ok", 4: "ok"}


def test_without_texts_replay_says_what_to_do(tmp_path: Path, write_jsonl: Writer) -> None:
    source = write_jsonl([(1, "FAILS", "")])
    annotate(
        AnnotateConfig(sources=[source], to=str(tmp_path / "t"), backend=BACKEND, store_text=False)
    )
    with pytest.raises(UsageError, match=r"1 citations .* none has its text .* --retry failed,"):
        replay(tmp_path / "t")
    with pytest.raises(UsageError, match="holds no tables"):
        replay(tmp_path / "no")


def test_a_checkpoint_that_is_gone_must_be_named(table: Path, folder: Path) -> None:
    moved = (folder / "old").rename(folder / "moved")
    load_checkpoint.cache_clear()
    try:
        with pytest.raises(UsageError, match=r"old.*--checkpoint"):
            replay(table)
        assert replay(table, checkpoint=str(moved)).run.annotated == 2
    finally:
        moved.rename(folder / "old")


def test_compare_says_what_another_checkpoint_would_change(
    table: Path, folder: Path, tmp_path: Path
) -> None:
    worse = make_checkpoint(tmp_path, "worse")
    config = {"checkpoint": str(worse), "backend": BACKEND}
    found = compare(CompareConfig.model_validate(config | {"table": str(table)})).found
    assert found.citations == 2 and found.changes[0].change.same == 2
    lines = '{"pmid": 1, "title": "cancer"}\n{"pmid": 2, "title": "aspirin"}\n'
    (tmp_path / "more.jsonl").write_text(lines)
    other = {"sources": [str(tmp_path / "more.jsonl")], "against": str(folder / "old")}
    found = compare(CompareConfig.model_validate(config | other)).found
    assert found.changes[0].change._asdict() == {"same": 1, "moved": 0, "added": 0, "lost": 1}
    assert found.changes[0].noise and found.changes[0].noise.lost == 0


def test_as_of_says_what_it_does_not_have(table: Path) -> None:
    def ask(as_of: str) -> Any:
        return sql(SqlConfig(query="SELECT 1", source=str(table), as_of=as_of))

    with pytest.raises(UsageError, match="newest version is"):
        ask("999")
    with pytest.raises(UsageError, match="did not exist"):
        ask("2001-01-01")
    with pytest.raises(UsageError, match="expected a version or a time"):
        ask("yesterday")
    assert list(ask("2999-01-01").rows) == [(1,)]
