"""The whole road with the real engine and the embedded checkpoint, on the bundled sample."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

import jobs.sample
from jobs.annotate import RunResult, run
from schemas.configs.annotate import AnnotateConfig
from schemas.errors import JobError, UsageError

pytestmark = [pytest.mark.vllm, pytest.mark.usefixtures("ray_session")]

ROOT = Path(__file__).parents[2]
SAMPLE = Path(jobs.sample.__file__).parent / "pubmed_sample.xml"


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vllm")


@pytest.fixture(scope="module")
def sources(target: Path) -> list[str]:
    # A text that no prompt holds, and one without any.
    rows = [
        {"pmid": 1, "title": "cancer of the breast and " * 500, "abstract": ""},
        {"pmid": 2, "title": "", "abstract": ""},
    ]
    path = target / "awkward.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return [str(SAMPLE), str(path)]


@pytest.fixture(scope="module")
def result(target: Path, sources: list[str], ray_session: None) -> RunResult:
    # Passed on to vLLM: fewer tokens a step than it would take.
    told = {"max_num_batched_tokens": 1024, "disable_log_stats": False}
    return run(AnnotateConfig(sources=sources, to=str(target / "t"), engine_args=told))


@pytest.fixture(scope="module")
def rows(target: Path, result: RunResult) -> list[dict[str, Any]]:
    table: list[dict[str, Any]] = (
        DeltaTable(target / "t/annotations").to_pyarrow_table().to_pylist()
    )
    return table


def test_every_citation_once_and_none_failed(result: RunResult, rows: list[dict[str, Any]]) -> None:
    assert result.read == result.annotated == len(rows) == len({r["pmid"] for r in rows}) == 51
    assert (result.failed, result.empty) == (0, 1)
    # Of the text without end nano opens one mark after another and closes none, up to its limit.
    partial = [r for r in rows if r["status"] == "partial"]
    assert [r["pmid"] for r in partial] == [1]
    assert "cut off by the token limit of" in partial[0]["error"]


def test_an_argument_that_vllm_does_not_have_is_refused(target: Path, sources: list[str]) -> None:
    told = {"max_num_batch_tokens": 1024}
    with pytest.raises(UsageError, match=r"no argument max_num_batch_tokens \(did you mean max_nu"):
        run(AnnotateConfig(sources=sources, to=str(target / "no"), engine_args=told))
    assert not (target / "no").exists()


def test_every_mention_stands_where_it_says(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        keys = [(m["start"], m["end"], m["entity_type"]) for m in row["mentions"]]
        assert keys == sorted(set(keys))
        for m in row["mentions"]:
            assert row["text"][m["start"] : m["end"]] == m["text"] != ""
            assert 0 < m["score"] <= 1 and m["grade"] in ("exact", "repaired")


def test_it_finds_what_a_person_would(rows: list[dict[str, Any]]) -> None:
    found = {(m["entity_type"], m["text"].lower()) for r in rows for m in r["mentions"]}
    assert len(found) > 300
    assert {t for t, _ in found} == {"disease", "chemical", "gene"}
    assert ("chemical", "doxorubicin") in found and ("disease", "heart failure") in found


def test_the_run_says_how_it_went(target: Path, result: RunResult) -> None:
    (row,) = DeltaTable(target / "t/runs").to_pyarrow_table().to_pylist()
    assert row["mentions"] == result.mentions > 500
    assert row["prompt_tokens"] > 10_000 and row["completion_tokens"] > 10_000
    assert row["engine_start_seconds"] > 1 and 0.5 < row["engine_busy_share"] <= 1
    assert sum(dict(row["unplaced"]).values()) == result.unplaced
    assert {s["reason"] for s in row["unplaced_samples"]} == set(dict(row["unplaced"]))
    assert {"vllm", "torch", "ray"} & set(dict(row["versions"]))


def test_run_again_it_annotates_nothing(target: Path, sources: list[str], rows: Any) -> None:
    again = run(AnnotateConfig(sources=sources, to=str(target / "t")))
    assert (again.annotated, again.settled) == (0, 51) and again.seconds < 20


@pytest.fixture(scope="module")
def long_context(target: Path) -> Path:
    """nano, but for a context for which an engine of this machine has no memory."""
    path = target / "long"
    shutil.copytree(ROOT / "checkpoints/nano", path)
    edit(path / "config.json", max_position_embeddings=1_000_000)
    return path


def edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_long_context_is_not_reserved_for_short_prompts(
    long_context: Path, sources: list[str], target: Path
) -> None:
    config = AnnotateConfig(
        sources=sources[:1], to=str(target / "short"), checkpoint=str(long_context), limit=2
    )
    assert (run(config).annotated, config.context_tokens) == (2, None)


@pytest.mark.parametrize(
    ("changes", "options", "why"),
    [
        ({}, {"context_tokens": 1_000_000}, r"ValueError: To serve at least one .*\(1000000\)"),
        ({"architectures": ["NoSuchModel"], "model_type": "no_such"}, {}, "no_such"),
    ],
    ids=["no memory for the cache", "no such architecture"],
)  # fmt: skip
def test_an_engine_that_cannot_start_says_why(
    long_context: Path,
    sources: list[str],
    tmp_path: Path,
    changes: dict[str, object],
    options: dict[str, Any],
    why: str,
) -> None:
    path = tmp_path / "checkpoint"
    shutil.copytree(long_context, path)
    edit(path / "config.json", **changes)
    config = AnnotateConfig(
        sources=sources[:1], to=str(tmp_path / "t"), checkpoint=str(path), limit=2, **options
    )
    with pytest.raises(
        JobError, match=rf"^run \S+: an engine on \S+ cannot start: .*{why}"
    ) as told:
        run(config)
    assert "\n" not in str(told.value) and len(str(told.value)) < 800
