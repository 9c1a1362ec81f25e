"""The whole road with a deterministic backend: what is read, settled, replaced and committed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from engine.runs import pipeline
from engine.steps.align import align_mentions
from engine.tables.committer import Commit, Committer
from engine.tables.store import Store
from engine.views.status import UnderWay, table_status
from jobs.annotate import RunResult, run
from schemas.annotations import ANNOTATIONS_SCHEMA, RUNS_SCHEMA
from schemas.configs.annotate import AnnotateConfig
from schemas.errors import JobError, UsageError

ROOT = Path(__file__).parents[2]
FAKE = "fake_backend:FakeBackend"
Writer = Callable[..., str]

WITH_RAY = pytest.mark.usefixtures("ray_session")
WITHOUT_RAY = pytest.mark.usefixtures("without_ray")
"""For tests of what concerns the table alone."""

ASPIRIN = (
    1,
    "Aspirin and cancer",
    "We gave aspirin to patients with breast cancer. BRCA1 was low.",
)
EMPTY = (2, "", "")
DIABETES = (3, "Metformin in diabetes", "")


# Citations long enough that some dozen of them do not travel as one block.
LONG = "no word of note is in here and " * 300


def annotate(source: str | list[str], to: Path, **options: Any) -> RunResult:
    sources = [source] if isinstance(source, str) else source
    return run(AnnotateConfig(sources=sources, to=str(to), backend=FAKE, **options))


def rows(to: Path) -> dict[int, dict[str, Any]]:
    table = DeltaTable(to / "annotations").to_pyarrow_table()
    found = {row["pmid"]: row for row in table.to_pylist()}
    assert len(found) == len(table), "a PMID stands twice"
    return found


def surfaces(row: dict[str, Any]) -> list[tuple[str, str]]:
    return [(m["entity_type"], m["text"]) for m in row["mentions"]]


@WITH_RAY
def test_a_row_per_citation_with_its_mentions(tmp_path: Path, write_jsonl: Writer) -> None:
    result = annotate(write_jsonl([ASPIRIN, EMPTY, DIABETES]), tmp_path / "t")
    found = rows(tmp_path / "t")
    assert surfaces(found[1]) == [
        ("disease", "cancer"),
        ("chemical", "aspirin"),
        ("disease", "breast cancer"),
        ("gene", "BRCA1"),
    ]
    assert [found[i]["status"] for i in (1, 2, 3)] == ["ok", "empty", "ok"]
    assert found[2]["text"] == "" and found[2]["mentions"] == []
    for row in found.values():
        for m in row["mentions"]:
            assert row["text"][m["start"] : m["end"]] == m["text"]
            sentence = row["sentences"][m["sentence"]]
            assert sentence["start"] <= m["start"] < m["end"] <= sentence["end"]
            assert m["score"] == pytest.approx(0.8825, abs=1e-4) and m["grade"] == "exact"
    assert (result.read, result.annotated, result.empty) == (3, 3, 1)
    assert result.mentions == 4 + len(found[3]["mentions"])
    assert result.exit_code(strict=True, max_failed=0) == 0


@WITHOUT_RAY
def test_the_stored_schema_is_the_written_one(tmp_path: Path, write_jsonl: Writer) -> None:
    annotate(write_jsonl([ASPIRIN]), tmp_path / "t")
    for name, schema in (("annotations", ANNOTATIONS_SCHEMA), ("runs", RUNS_SCHEMA)):
        stored = pa.schema(DeltaTable(tmp_path / "t" / name).schema().to_arrow())
        assert stored.names == schema.names
    stored = DeltaTable(tmp_path / "t" / "annotations").to_pyarrow_table().schema
    for field in ANNOTATIONS_SCHEMA:
        # Delta has one binary type.
        wanted = pa.binary() if field.name == "text_digest" else field.type
        assert stored.field(field.name).type == wanted, field.name


@WITHOUT_RAY
def test_what_is_settled_is_not_annotated_again(tmp_path: Path, write_jsonl: Writer) -> None:
    source = write_jsonl([ASPIRIN, EMPTY, DIABETES])
    annotate(source, tmp_path / "t")
    version = DeltaTable(tmp_path / "t/annotations").version()
    again = annotate(source, tmp_path / "t")
    assert (again.read, again.settled, again.annotated) == (3, 3, 0)
    assert DeltaTable(tmp_path / "t/annotations").version() == version


@WITH_RAY
def test_a_changed_text_is_annotated_again_and_replaces(
    tmp_path: Path, write_jsonl: Writer
) -> None:
    annotate(write_jsonl([ASPIRIN, DIABETES]), tmp_path / "t")
    changed = (1, "Ibuprofen and cancer", "")
    result = annotate(write_jsonl([changed, DIABETES]), tmp_path / "t")
    assert (result.settled, result.annotated) == (1, 1)
    assert rows(tmp_path / "t")[1]["text"] == "Ibuprofen and cancer"


@WITHOUT_RAY
def test_of_several_records_the_later_wins_before_the_model_runs(
    tmp_path: Path, write_jsonl: Writer
) -> None:
    first = write_jsonl([(1, "Aspirin", ""), (3, "FAILS, were it asked", "")], "b.jsonl")
    second = write_jsonl([(3, "Metformin", ""), (3, "Ibuprofen", "")], "a.jsonl")
    result = annotate([first, second], tmp_path / "t")
    assert (result.read, result.annotated, result.failed) == (2, 2, 0)
    assert rows(tmp_path / "t")[3]["text"] == "Ibuprofen"
    assert result.figures.prompts == 2


@WITHOUT_RAY
def test_limit_takes_the_first_and_the_next_run_goes_on(
    tmp_path: Path, write_jsonl: Writer
) -> None:
    source = write_jsonl([(i, f"Aspirin {i}", "") for i in range(1, 8)])
    assert annotate(source, tmp_path / "t", limit=3).annotated == 3
    assert sorted(rows(tmp_path / "t")) == [1, 2, 3]
    assert annotate(source, tmp_path / "t").annotated == 4


@WITHOUT_RAY
def test_a_failing_prompt_harms_its_own_citation_only(tmp_path: Path, write_jsonl: Writer) -> None:
    bad = (10, "FAILS", "")
    partial = (11, "FAILS", "We gave aspirin.")
    result = annotate(write_jsonl([ASPIRIN, bad, partial, DIABETES]), tmp_path / "t")
    found = rows(tmp_path / "t")
    assert [found[i]["status"] for i in (1, 3, 10, 11)] == ["ok", "ok", "failed", "partial"]
    assert found[10]["error"] == ("generate: ValueError: told to fail (1 of 1 prompts failed)")
    assert found[11]["error"].endswith("(1 of 2 prompts failed)")
    assert surfaces(found[11]) == [("chemical", "aspirin")]
    assert (result.failed, result.partial) == (1, 1)
    assert result.exit_code(strict=False, max_failed=0.5) == 0
    assert result.exit_code(strict=False, max_failed=0.4) == 3
    retried = annotate(
        write_jsonl([ASPIRIN, bad, partial]), tmp_path / "t", retry=["failed", "partial"]
    )
    assert (retried.settled, retried.annotated) == (1, 2)


@WITH_RAY
def test_an_engine_that_dies_is_replaced_and_its_batch_done_again(
    tmp_path: Path, write_jsonl: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The path goes in the text: workers of the running cluster do not see our environment.
    killed = tmp_path / "killed"
    source = write_jsonl(
        [(i, f"Aspirin {i}", "") for i in range(1, 40)] + [(99, f"KILLS={killed}= aspirin", "")]
    )
    result = annotate(source, tmp_path / "t")
    assert killed.exists()
    assert len(rows(tmp_path / "t")) == 40 and result.failed == 0


@WITH_RAY
def test_an_engine_that_hangs_is_noticed_and_replaced(tmp_path: Path, write_jsonl: Writer) -> None:
    hung = tmp_path / "hung"
    source = write_jsonl([(1, f"HANGS={hung}= aspirin", ""), (2, "Use of aspirin", "")])
    result = annotate(source, tmp_path / "t", stall_seconds=1.0)
    assert hung.exists() and result.failed == 0
    assert [surfaces(r) for r in rows(tmp_path / "t").values()] == [[("chemical", "aspirin")]] * 2


@WITH_RAY
def test_an_engine_that_always_dies_ends_the_run_after_bounded_tries(
    tmp_path: Path, write_jsonl: Writer
) -> None:
    source = write_jsonl([(i, "KILLSALWAYS", "") for i in range(1, 4)])
    with pytest.raises(JobError, match=r"lost 5 times in a row .* told to die; it had PMID 1 to 3"):
        annotate(source, tmp_path / "t")
    runs = DeltaTable(tmp_path / "t/runs").to_pyarrow_table().to_pylist()
    assert [r["outcome"] for r in runs] == ["failed"]


@WITH_RAY
def test_losses_far_apart_do_not_end_a_run(tmp_path: Path, write_jsonl: Writer) -> None:
    # Five engines are lost, by turns with and without a word: more than may be in a row.
    kinds = ("KILLS", "CRASHES")
    source = write_jsonl(
        [
            (i, f"{kinds[i // 40 % 2]}={tmp_path}/lost{i}= aspirin" if not i % 40 else "Aspirin",
             LONG)
            for i in range(1, 211)
        ]
    )  # fmt: skip
    result = annotate(source, tmp_path / "t", commit_every_rows=20)
    assert len(list(tmp_path.glob("lost*"))) == 5
    found = rows(tmp_path / "t")
    assert sorted(found) == list(range(1, 211)) and result.failed == result.partial == 0
    assert all(r["status"] == "ok" for r in found.values())


@WITH_RAY
def test_a_citation_that_ends_every_engine_fails_and_the_others_do_not(
    tmp_path: Path, write_jsonl: Writer
) -> None:
    source = write_jsonl(
        [(i, "KILLSALWAYS" if i in (1, 30) else f"Aspirin {i}", LONG) for i in range(1, 61)]
    )
    result = annotate(source, tmp_path / "t")
    found = rows(tmp_path / "t")
    assert sorted(found) == list(range(1, 61))
    assert [p for p, r in found.items() if r["status"] != "ok"] == [1, 30]
    for pmid in (1, 30):
        assert found[pmid]["status"] == "failed"
        assert "lost each of 2 times that it had no other citation" in found[pmid]["error"]
    assert (result.failed, result.exit_code(strict=False, max_failed=0)) == (2, 3)


@WITH_RAY
def test_an_engine_that_fits_nowhere_leaves_the_target_alone(
    tmp_path: Path, write_jsonl: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a cluster with GPUs, of which this one has none.
    monkeypatch.setattr("engine.runs.pipeline.pool_resources", lambda *_: (1.0, 2.0, 1))
    source = write_jsonl([ASPIRIN])
    with pytest.raises(
        UsageError, match=r"asks for 1 CPU and 2 GPUs .* none of the cluster: 1 node"
    ):
        annotate(source, tmp_path / "t", tensor_parallel_size=2)
    assert not (tmp_path / "t").exists()
    monkeypatch.undo()
    annotate(source, tmp_path / "t")
    # With nothing to annotate no engine is needed.
    monkeypatch.setattr("engine.runs.pipeline.pool_resources", lambda *_: (1.0, 2.0, 1))
    assert annotate(source, tmp_path / "t", tensor_parallel_size=2).settled == 1


@WITH_RAY
def test_a_context_that_is_too_small_or_too_large_is_refused(
    tmp_path: Path, write_jsonl: Writer
) -> None:
    source = write_jsonl([ASPIRIN])
    with pytest.raises(UsageError, match=r"context_tokens 100: the task's longest prompt .* 612"):
        annotate(source, tmp_path / "t", context_tokens=100)
    with pytest.raises(UsageError, match="nano has a context of 1024 tokens"):
        annotate(source, tmp_path / "t", context_tokens=2048)
    assert not (tmp_path / "t").exists()


@WITH_RAY
def test_another_checkpoint_in_its_place_ends_the_run_before_a_row_is_stored(
    tmp_path: Path, write_jsonl: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tuned"
    shutil.copytree(ROOT / "checkpoints/nano", path)
    planned = pipeline.annotate

    def swapped(*given: Any) -> Any:
        weights = path / "model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1000] ^= 255
        weights.write_bytes(content)
        return planned(*given)

    monkeypatch.setattr(pipeline, "annotate", swapped)
    source = write_jsonl([ASPIRIN])
    with pytest.raises(JobError, match=r"^run \S+: checkpoint .*tuned on .* \(weights: found"):
        annotate(source, tmp_path / "t", checkpoint=str(path))
    assert rows(tmp_path / "t") == {}
    monkeypatch.undo()
    again = annotate(source, tmp_path / "t", checkpoint=str(path))
    assert (again.annotated, rows(tmp_path / "t")[1]["status"]) == (1, "ok")


@WITH_RAY
def test_commits_are_made_while_the_run_goes_on(
    tmp_path: Path, write_jsonl: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_jsonl([(i, f"Aspirin {i}", LONG) for i in range(1, 101)])
    seen: list[UnderWay] = []
    committed = Committer.commit

    def look(self: Committer, given: pa.Table) -> Commit:
        done = committed(self, given)
        seen.extend(table_status(Store(str(tmp_path / "t"))).under_way)
        return done

    monkeypatch.setattr(Committer, "commit", look)
    result = annotate(source, tmp_path / "t", commit_every_rows=20)
    assert {run.run_id for run in seen} == {result.run_id}
    told = [run.last[1] for run in seen]
    assert {p.planned for p in told} == {100} and told[-1].job == "annotate"
    assert [p.done for p in told] == sorted(p.done for p in told) and told[-1].done == 100
    assert sum(told[-1].by_engine.values()) == 100
    ended = table_status(Store(str(tmp_path / "t")))
    assert ended.under_way == [] and ended.ended and ended.ended["run_id"] == result.run_id
    history = DeltaTable(tmp_path / "t/annotations").history()
    assert len([h for h in history if h["operation"] == "WRITE"]) >= 3
    assert len(rows(tmp_path / "t")) == 100


@WITH_RAY
def test_two_engines_share_the_work(tmp_path: Path, write_jsonl: Writer) -> None:
    source = write_jsonl([(i, f"Aspirin {i}", LONG) for i in range(1, 201)])
    result = annotate(source, tmp_path / "t", engines="2")
    shares = sorted(result.figures.by_engine.values())
    assert len(shares) == 2 and sum(shares) == 200 and shares[0] > 40


@WITHOUT_RAY
def test_other_entity_types_need_force_and_then_replace(
    tmp_path: Path, write_jsonl: Writer
) -> None:
    both = write_jsonl([ASPIRIN, DIABETES])
    annotate(both, tmp_path / "t")
    before = rows(tmp_path / "t")
    with pytest.raises(UsageError, match="holds annotations of chemical, disease, gene, not gene"):
        annotate(both, tmp_path / "t", entity_types=["gene"])
    assert rows(tmp_path / "t") == before
    annotate(write_jsonl([ASPIRIN], "one.jsonl"), tmp_path / "t", entity_types=["gene"], force=True)
    found = rows(tmp_path / "t")
    assert sorted(found) == [1] and surfaces(found[1]) == [("gene", "BRCA1")]
    annotate(both, tmp_path / "t", entity_types=["gene"])


@WITHOUT_RAY
def test_force_leaves_rows_alone_where_the_sources_were_not_read_in_full(
    tmp_path: Path, write_jsonl: Writer
) -> None:
    annotate(write_jsonl([ASPIRIN, DIABETES]), tmp_path / "t")
    (tmp_path / "broken.xml").write_text("no angle brackets")
    result = annotate(
        str(tmp_path / "broken.xml"), tmp_path / "t", entity_types=["gene"], force=True
    )
    assert result.damaged == 1 and sorted(rows(tmp_path / "t")) == [1, 3]
    with pytest.raises(UsageError, match="--force with --limit"):
        annotate(write_jsonl([ASPIRIN]), tmp_path / "t", force=True, limit=1)


@WITH_RAY
def test_dry_run_counts_and_writes_nothing(tmp_path: Path, write_jsonl: Writer) -> None:
    source = write_jsonl([ASPIRIN, EMPTY, DIABETES])
    result = annotate(source, tmp_path / "t", dry_run=True)
    # ASPIRIN has three sentences, DIABETES one; nano is asked for all types at once.
    assert result.dry_run is not None
    assert (result.dry_run["new"], result.empty, result.dry_run["prompts"]) == (3, 1, 4)
    assert not (tmp_path / "t").exists()
    wet = annotate(source, tmp_path / "t")
    assert wet.figures.prompt_tokens == result.dry_run["prompt_tokens"]
    assert annotate(source, tmp_path / "t", dry_run=True).settled == 3


@WITHOUT_RAY
def test_no_text_leaves_text_null_and_still_settles(tmp_path: Path, write_jsonl: Writer) -> None:
    source = write_jsonl([ASPIRIN])
    annotate(source, tmp_path / "t", store_text=False)
    row = rows(tmp_path / "t")[1]
    assert row["text"] is None and len(row["mentions"]) == 4
    assert annotate(source, tmp_path / "t").settled == 1


@WITHOUT_RAY
def test_runs_and_annotators_say_what_was_done(tmp_path: Path, write_jsonl: Writer) -> None:
    source = write_jsonl([ASPIRIN, EMPTY])
    result = annotate(source, tmp_path / "t")
    (row,) = DeltaTable(tmp_path / "t/runs").to_pyarrow_table().to_pylist()
    assert (row["run_id"], row["outcome"], row["job"]) == (result.run_id, "done", "annotate")
    assert (row["read"], row["annotated"], row["prompts"]) == (2, 2, 3)
    assert row["completion_tokens"] > 0 and dict(row["versions"])["ray"]
    assert [(f["source"], f["citations"]) for f in row["files"]] == [("citations.jsonl", 2)]
    annotate(source, tmp_path / "t")
    (known,) = DeltaTable(tmp_path / "t/annotators").to_pyarrow_table().to_pylist()
    assert known["annotator"] == row["annotator"] == rows(tmp_path / "t")[1]["annotator"]
    assert known["entity_types"] == ["disease", "chemical", "gene"]


@WITHOUT_RAY
def test_the_store_reads_from_any_uri(tmp_path: Path, write_jsonl: Writer) -> None:
    target = (tmp_path / "t").as_uri()
    source = Path(write_jsonl([ASPIRIN])).as_uri()
    assert run(AnnotateConfig(sources=[source], to=target, backend=FAKE)).annotated == 1
    assert Store(target).exists() and sorted(rows(tmp_path / "t")) == [1]


def test_a_fault_of_the_aligner_is_the_prompts_own() -> None:
    # What the road relies on: nothing that a model writes makes the aligner raise.
    from engine.codecs import mark

    for answer in ("", "<mark>", "</mark>", "<mark></mark>", "x" * 1000, "<mark>a</mark>" * 100):
        alignment = align_mentions("some source", mark.decode(answer))
        assert alignment.placed == []
