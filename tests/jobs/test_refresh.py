"""A turn of refresh: nothing to do, new files, a worse and a better checkpoint, two at once."""

import gzip
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from nlm_server import Server, nlm_server
from rollout_backend import make_checkpoint

from engine.refresh.lock import turn
from engine.tables.store import Store
from jobs.refresh import RefreshResult, describe, run
from schemas.configs.refresh import RefreshConfig
from schemas.errors import UsageError
from schemas.examples import EXAMPLES_SCHEMA

BACKEND = "rollout_backend:RolloutBackend"
ROOT = Path(__file__).parents[2]
TEXTS = [f"Aspirin and breast cancer {i}, a tumour" for i in range(1, 31)]
Refresh = Callable[..., RefreshResult]

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("old"), "old")


def write(path: Path, titles: dict[int, str], deleted: list[int] | None = None) -> Path:
    records = "".join(
        f"<PubmedArticle><MedlineCitation><PMID>{p}</PMID><Article><ArticleTitle>{t}"
        "</ArticleTitle></Article></MedlineCitation></PubmedArticle>"
        for p, t in titles.items()
    )
    block = "".join(f"<PMID>{p}</PMID>" for p in deleted or [])
    block = f"<DeleteCitation>{block}</DeleteCitation>" if block else ""
    text = f"<PubmedArticleSet>{records}{block}</PubmedArticleSet>"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    return path


@pytest.fixture
def gold(tmp_path: Path) -> str:
    """Examples in which cancers and tumours are diseases."""
    rows = []
    for i, text in enumerate(TEXTS):
        spans = [(text.index(w), w) for w in ("breast cancer", "tumour")]
        mentions = [
            {"start": s, "end": s + len(w), "text": w, "entity_type": "disease"} for s, w in spans
        ]
        rows.append(
            {
                "corpus": "c", "split": "test", "document": str(i), "part": 0, "unit": "sentence",
                "form": "raw", "text": text, "mentions": mentions, "annotated_types": ["disease"],
            }
        )  # fmt: skip
    path = tmp_path / "gold.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=EXAMPLES_SCHEMA), path)
    return str(path)


def take(folder: Path, old: Path, **options: Any) -> RefreshResult:
    given = {
        "to": str(folder / "t"), "sources": [str(folder / "in")],
        "checkpoint": str(old), "backend": BACKEND,
    } | options  # fmt: skip
    return run(RefreshConfig.model_validate(given))


@pytest.fixture
def refresh(tmp_path: Path, old: Path) -> Refresh:
    """Takes a turn over the files in ``in``; its keywords change the config."""
    return partial(take, tmp_path, old)


@pytest.fixture(scope="module")
def first_turn(tmp_path_factory: pytest.TempPathFactory, old: Path, ray_session: None) -> Path:
    folder = tmp_path_factory.mktemp("first")
    write(folder / "in/pubmed25n0001.xml.gz", dict(enumerate(TEXTS, 1)))
    assert take(folder, old).annotated == 30
    return folder


@pytest.fixture
def filled(tmp_path: Path, first_turn: Path) -> Path:
    """A table of thirty citations, a copy for each test."""
    for name in ("in", "t"):
        shutil.copytree(first_turn / name, tmp_path / name)
    return tmp_path / "t"


def rows(to: Path) -> dict[int, dict[str, Any]]:
    return {r["pmid"]: r for r in DeltaTable(to / "annotations").to_pyarrow_table().to_pylist()}


def annotators(to: Path) -> list[int]:
    return sorted(Counter(r["annotator"] for r in rows(to).values()).values())


def test_new_files_are_taken_in_and_then_there_is_nothing_to_do(
    tmp_path: Path, filled: Path, refresh: Refresh
) -> None:
    version = DeltaTable(filled / "annotations").version()
    again = refresh()
    assert (again.outcome, again.files, again.exit_code()) == ("nothing to do", 0, 0)
    assert DeltaTable(filled / "annotations").version() == version
    write(tmp_path / "in/pubmed25n0002.xml.gz", {31: "Ibuprofen"}, deleted=[1, 2])
    result = refresh()
    assert (result.outcome, result.files) == ("done", 1)
    assert (result.annotated, result.deleted) == (1, 2)
    assert sorted(rows(filled)) == list(range(3, 32))
    assert result.progress and (result.progress.done, result.progress.rows) == (29, 29)
    assert "1 citations annotated, 2 deleted" in describe(result, "t")


def test_with_nothing_to_do_ray_is_not_even_loaded(tmp_path: Path, filled: Path, old: Path) -> None:
    config = RefreshConfig(
        to=str(filled), sources=[str(tmp_path / "in")], checkpoint=str(old), backend="vllm"
    )
    # Ready to run, the backend is another matter of loading; the annotator is the same.
    code = (
        "import sys, time; began = time.process_time()\n"
        "from jobs.refresh import run; from schemas.configs.refresh import RefreshConfig\n"
        "result = run(RefreshConfig.model_validate_json(sys.argv[1]))\n"
        "heavy = {'ray', 'vllm', 'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)\n"
        "print(result.outcome, heavy, time.process_time() - began < 5)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, config.model_dump_json()],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "nothing to do set() True\n", done.stderr


def test_a_worse_checkpoint_is_refused_with_the_numbers_and_not_tried_again(
    tmp_path: Path, filled: Path, refresh: Refresh, gold: str
) -> None:
    worse = make_checkpoint(tmp_path, "worse")
    before = rows(filled)
    write(tmp_path / "in/pubmed25n0002.xml.gz", {31: "Lung cancer"})
    options = {"checkpoint": str(worse), "gate": {"corpora": [gold]}}
    result = refresh(**options)
    assert result.exit_code() == 3
    assert result.decision and result.decision.answer == "refused"
    (f1, *_, lost) = result.decision.reasons
    assert f1 == "all types: F1 on gold falls from 0.6667 to 0.0000, by more than 0.01"
    assert lost == (
        "disease: 30 of 30 mentions lost (0 by noise), 100.0% beyond noise, at most 20.0% is "
        "allowed"
    )
    # What is new is annotated by the table's own checkpoint.
    after = rows(filled)
    assert {p: after[p] for p in before} == before
    assert [m["text"] for m in after[31]["mentions"]] == ["cancer"]
    assert after[31]["annotator"] == before[1]["annotator"]
    began = time.monotonic()
    again = refresh(**options)
    assert (again.outcome, again.comparison, again.exit_code()) == ("nothing to do", None, 3)
    assert again.decision == result.decision and time.monotonic() - began < 30
    decisions = DeltaTable(filled / "rollouts").to_pyarrow_table().to_pylist()
    assert [d["decision"] for d in decisions] == ["refused"]
    assert json.loads(decisions[0]["report"])["citations"] == 30


def test_a_better_checkpoint_is_rolled_out_in_slices(
    tmp_path: Path, filled: Path, refresh: Refresh, gold: str
) -> None:
    options = {
        "checkpoint": str(make_checkpoint(tmp_path, "better")),
        "gate": {"corpora": [gold], "limits": {"max_added": 1.0}},
        "slice_rows": 12,
    }
    result = refresh(**options)
    assert (result.exit_code(), result.remade) == (0, 12), result.problems
    assert result.decision and result.decision.answer == "accepted"
    assert result.comparison and result.comparison.old
    assert [s.f1(None) for s in (result.comparison.old, result.comparison.new)] == [2 / 3, 1.0]
    change = next(c for c in result.comparison.changes if c.entity_type == "disease")
    assert change.change._asdict() == {"same": 30, "moved": 0, "added": 30, "lost": 0}
    assert change.noise and change.noise.added == 0
    assert result.progress and (result.progress.done, result.progress.rows) == (12, 30)
    assert annotators(filled) == [12, 18]
    write(tmp_path / "in/pubmed25n0002.xml.gz", {31: "A tumour"})
    second = refresh(**options)
    assert (second.annotated, second.remade, second.comparison) == (1, 12, None)
    third = refresh(**options)
    assert third.remade == 6 and annotators(filled) == [31]
    assert refresh(**options).outcome == "nothing to do"
    assert all("tumour" in [m["text"] for m in r["mentions"]] for r in rows(filled).values())
    jobs = DeltaTable(filled / "runs").to_pyarrow_table()["job"].to_pylist()
    assert Counter(jobs) == {"annotate": 2, "rollout": 3}


def test_a_turn_finds_another_one_at_it(filled: Path, refresh: Refresh) -> None:
    with turn(str(filled), "20260101T000000Z-abcdef", lease_s=3.0):
        result = refresh()
        assert (result.outcome, result.exit_code()) == ("held", 0)
        assert "run 20260101T000000Z-abcdef, since 2" in describe(result, "t")
    assert refresh().outcome == "nothing to do"


def test_wrong_configs_touch_nothing(tmp_path: Path, refresh: Refresh) -> None:
    faulty = {"checkpoint": "no/such/one/here", "gate": {"corpora": ["no.parquet"]}}
    with pytest.raises(UsageError, match=r"(?s)no/such.*source .*/in.*no\.parquet"):
        refresh(**faulty)
    assert not (tmp_path / "t").exists()


def test_the_table_keeps_its_task(filled: Path, refresh: Refresh) -> None:
    with pytest.raises(UsageError, match="holds annotations of"):
        refresh(entity_types=["gene"])


def test_nlms_files_are_fetched_and_a_new_baseline_removes_what_it_lacks(
    tmp_path: Path, refresh: Refresh
) -> None:
    def publish(server: Server, folder: str, name: str, titles: dict[int, str]) -> None:
        server.publish(folder, name, write(tmp_path / "made" / name, titles).read_bytes())

    with nlm_server() as server:
        mirror = {"to": str(tmp_path / "m"), "source": server.url, "kinds": ["baseline", "updates"],
                  "backoff_seconds": 0.01, "retries": 1}  # fmt: skip
        titles = {i: f"Aspirin {i}" for i in range(1, 41)}
        publish(server, "baseline", "pubmed25n0001.xml.gz", titles)
        options = {"sources": [], "mirror": mirror}
        first = refresh(**options)
        assert any("updatefiles" in p for p in first.problems) and first.exit_code() == 3
        publish(server, "updatefiles", "pubmed25n0002.xml.gz", {7: "Ibuprofen"})
        second = refresh(**options)
        assert (second.fetched, second.annotated, second.problems) == (1, 1, [])
        assert refresh(**options).outcome == "nothing to do"
        for path in [p for p in server.files if "pubmed25" in p]:
            del server.files[path]
        del titles[40]
        publish(server, "baseline", "pubmed26n0001.xml.gz", titles)
        publish(server, "updatefiles", "pubmed26n0002.xml.gz", {7: "Ibuprofen"})
        third = refresh(**options)
        assert (third.fetched, third.deleted, third.problems) == (2, 1, [])
        assert len(rows(tmp_path / "t")) == 39
        assert refresh(**options).outcome == "nothing to do"


def test_failures_are_a_problem_and_the_next_turn_leaves_them(
    tmp_path: Path, refresh: Refresh
) -> None:
    write(tmp_path / "in/pubmed25n0001.xml.gz", {1: "FAILS", 2: "Aspirin"})
    result = refresh()
    assert (result.failed, result.exit_code()) == (1, 3) and "replay" in result.problems[0]
    assert refresh().exit_code() == 0


def test_many_small_files_are_compacted(tmp_path: Path, filled: Path, refresh: Refresh) -> None:
    for n in (2, 3):
        write(tmp_path / f"in/pubmed25n000{n}.xml.gz", {40 + n: "Aspirin"})
        refresh()
    result = refresh(compact_files=3)
    assert result.compacted >= 3 and result.outcome == "done"
    assert len(DeltaTable(filled / "annotations").file_uris()) == 1
    assert len(rows(filled)) == 32 and Store(str(filled)).exists()
