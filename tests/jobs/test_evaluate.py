"""Gold text through the pipeline, and files of predictions, to scores."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from engine.scoring.scores import ScoreRow
from jobs.cli import app
from jobs.evaluate import EvaluateResult, run, to_markdown
from schemas.configs.evaluate import EvaluateConfig
from schemas.errors import UsageError
from schemas.examples import EXAMPLES_SCHEMA

ROOT = Path(__file__).parents[2]
FAKE = "fake_backend:FakeBackend"

WITH_RAY = pytest.mark.usefixtures("ray_session")


@pytest.fixture(autouse=True)
def road(request: pytest.FixtureRequest) -> None:
    """Without Ray, but for the tests that ask for it."""
    if "ray_session" not in request.fixturenames:
        request.getfixturevalue("without_ray")


Gold = dict[str, str]
"""Surface to entity type: the first occurrence of each is gold."""


def example(text: str, gold: Gold | None = None, **columns: Any) -> dict[str, Any]:
    mentions = []
    for surface, kind in (gold or {}).items():
        start = text.index(surface)
        end = start + len(surface)
        mentions.append({"start": start, "end": end, "text": surface, "entity_type": kind})
    return {
        "corpus": "tiny", "split": "test", "document": "1", "part": 0, "pmid": None,
        "unit": "sentence", "form": "raw", "text": text, "title_length": None,
        "mentions": sorted(mentions, key=lambda m: (m["start"], m["end"])),
        "annotated_types": ["disease", "chemical"],
    } | columns  # fmt: skip


def numbered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | {"document": str(i)} for i, row in enumerate(rows)]


Writer = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    def write_examples(rows: list[dict[str, Any]], name: str = "tiny.parquet") -> str:
        path = tmp_path / name
        pq.write_table(pa.Table.from_pylist(rows, EXAMPLES_SCHEMA), path)
        return str(path)

    return write_examples


def evaluate(source: str, **options: Any) -> EvaluateResult:
    return run(EvaluateConfig(corpora=[source], backend=FAKE, replicates=50, **options))


def exact(row: ScoreRow) -> tuple[int, int, int]:
    return row.scores["exact"].counts


def by_name(result: EvaluateResult) -> dict[tuple[str | None, str | None], tuple[int, int, int]]:
    return {(row.corpus, row.entity_type): exact(row) for row in result.rows}


# Through the pipeline


@WITH_RAY
def test_scores_by_corpus_and_type(write: Writer) -> None:
    source = write(
        numbered(
            [
                example("We gave aspirin for breast cancer.", {"aspirin": "chemical",
                                                               "cancer": "disease"}),
                example("No word of note."),
                example("Metformin in diabetes", {"diabetes": "disease"}, corpus="other"),
                example("Sepsis and diabetes", {"Sepsis": "disease", "diabetes": "disease"},
                        corpus="other"),
            ]
        )
    )  # fmt: skip
    result = evaluate(source)
    # The fake marks: aspirin, breast cancer; nothing; diabetes (Metformin is not in lower case);
    # diabetes.
    assert by_name(result) == {
        (None, None): (3, 1, 2),
        (None, "chemical"): (1, 0, 0),
        (None, "disease"): (2, 1, 2),
        ("other", None): (2, 0, 1),
        ("other", "chemical"): (0, 0, 0),
        ("other", "disease"): (2, 0, 1),
        ("tiny", None): (1, 1, 1),
        ("tiny", "chemical"): (1, 0, 0),
        ("tiny", "disease"): (0, 1, 1),
    }
    headline = result.rows[0]
    assert headline.scores["overlap"].counts == (4, 0, 1)
    assert headline.scores["near"].counts == (3, 1, 2)
    assert headline.scores["exact"].f1_interval is not None
    assert (result.texts, result.sentences, result.failed) == (4, 4, 0)
    # Only annotated types are asked about.
    assert result.prompts == 4
    assert result.sentences_per_second is not None and result.sentences_per_second > 0
    assert result.exit_code(max_failed=0) == 0


def test_a_published_line_is_one_prompt_and_a_citation_is_split(write: Writer) -> None:
    text = "We gave aspirin. It was well borne. It cured cancer."
    as_line = evaluate(write([example(text)]))
    assert (as_line.sentences, as_line.prompts) == (1, 1)
    title = example(text, unit="citation", title_length=16)
    as_citation = evaluate(write([title], "b.parquet"))
    assert (as_citation.sentences, as_citation.prompts) == (3, 3)
    # Both at once, each in its own way.
    both = write([example(text), title | {"corpus": "b"}], "c.parquet")
    assert evaluate(both).sentences == 4


def test_offsets_are_those_of_the_gold_text_as_it_stands(write: Writer) -> None:
    text = "  𝛼-blocker  and  aspirin , for cancer "
    rows = [example(text, {"aspirin": "chemical", "cancer": "disease"})]
    assert exact(evaluate(write(rows)).rows[0]) == (2, 0, 0)


def test_types_that_the_corpus_does_not_annotate_are_neither_asked_nor_scored(
    write: Writer,
) -> None:
    text = "BRCA1 and aspirin in cancer"
    row = example(text, {"cancer": "disease"}, annotated_types=["disease"])
    result = evaluate(write([row]))
    assert by_name(result) == {("tiny", "disease"): (1, 0, 0)}
    assert result.prompts == 1
    # Beside a corpus that annotates more, each text is held to its own.
    more = example(text, {"cancer": "disease", "BRCA1": "gene"}, corpus="more",
                   annotated_types=["disease", "gene"])  # fmt: skip
    result = evaluate(write([row, more]))
    assert by_name(result)[None, None] == (3, 0, 0)
    assert result.prompts == 2


def test_gold_types_that_the_checkpoint_does_not_mark_are_told(write: Writer) -> None:
    row = example("cancer in mice", {"cancer": "disease", "mice": "species"},
                  annotated_types=["disease", "species"])  # fmt: skip
    only = example("fish", {"fish": "species"}, annotated_types=["species"], document="2")
    result = evaluate(write([row, only]))
    assert by_name(result) == {("tiny", "disease"): (1, 0, 0)}
    assert result.unmarked == {"species": 2}
    with pytest.raises(UsageError, match=r"gold has species, .* no entity type in common"):
        evaluate(write([only]))


def test_entity_types_narrows_what_is_scored(write: Writer) -> None:
    row = example("aspirin for cancer", {"cancer": "disease"})
    result = evaluate(write([row]), entity_types=["disease"])
    assert by_name(result) == {("tiny", "disease"): (1, 0, 0)}


def test_types_of_gold_that_differ_in_case_from_the_checkpoint_s_are_scored(
    write: Writer,
) -> None:
    row = example("aspirin for cancer in mice",
                  {"cancer": "Disease", "aspirin": "CHEMICAL", "mice": "Species"},
                  annotated_types=["Disease", "CHEMICAL", "Species"])  # fmt: skip
    result = evaluate(write([row]))
    assert by_name(result) == {
        ("tiny", None): (2, 0, 0), ("tiny", "chemical"): (1, 0, 0), ("tiny", "disease"): (1, 0, 0),
    }  # fmt: skip
    assert result.unmarked == {"Species": 1} and not result.unscored
    only = evaluate(write([row]), entity_types=["Disease"])
    assert by_name(only) == {("tiny", "disease"): (1, 0, 0)}


def test_sentences_with_nothing_are_not_counted_as_right(write: Writer) -> None:
    rows = [example("Sepsis", {"Sepsis": "disease"})] + [example("Nothing here.")] * 9
    result = evaluate(write(numbered(rows)))
    assert result.rows[0].scores["exact"].counts.f1 == 0.0


def test_duplicated_texts_count_each_time(write: Writer) -> None:
    rows = [example("cancer", {"cancer": "disease"})] * 3
    rows += [example("Sepsis", {"Sepsis": "disease"})]
    assert exact(evaluate(write(numbered(rows))).rows[0]) == (3, 0, 1)
    # Also where a document stands twice under one number and PMID.
    same = [row | {"pmid": 7} for row in rows]
    assert exact(evaluate(write(same)).rows[0]) == (3, 0, 1)


def test_nested_gold_counts_each_mention(write: Writer) -> None:
    row = example("breast cancer", {"breast cancer": "disease", "cancer": "disease"})
    assert exact(evaluate(write([row])).rows[0]) == (1, 0, 1)


def test_a_failed_text_counts_as_no_predictions_and_is_told(write: Writer) -> None:
    bad = example("FAILS at cancer", {"cancer": "disease"})
    good = example("aspirin for cancer", {"aspirin": "chemical", "cancer": "disease"})
    half = example("It FAILS. Not so aspirin.", {"aspirin": "chemical"}, unit="citation",
                   title_length=9)  # fmt: skip
    result = evaluate(write(numbered([bad, good, half])))
    assert by_name(result)["tiny", None] == (3, 0, 1)
    assert (result.failed, result.partial) == (1, 1)
    assert result.exit_code(max_failed=0) == 3 and result.exit_code(max_failed=0.7) == 0


def test_an_empty_text_is_a_text(write: Writer) -> None:
    result = evaluate(write(numbered([example(""), example("cancer", {"cancer": "disease"})])))
    assert (result.texts, result.failed, exact(result.rows[0])) == (2, 0, (1, 0, 0))


# What is scored


def test_split_and_limit(write: Writer) -> None:
    rows = [example("cancer", split="train"), example("diabetes"), example("sepsis")]
    rows += [example("lung cancer", corpus="other")] * 2
    source = write(numbered(rows))
    assert evaluate(source).texts == 4
    assert evaluate(source, split="train").texts == 1
    assert evaluate(source, limit=1).texts == 2  # of each corpus
    with pytest.raises(UsageError, match="no example of split dev; found test, train"):
        evaluate(source, split="dev")


def test_faults_are_told_all_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as e:
        run(EvaluateConfig(corpora=[str(tmp_path / "no")], backend="none", checkpoint="./no"))
    assert all(what in str(e.value) for what in ("does not exist", "backend none", "./no"))


def test_a_file_that_is_no_examples_is_refused(tmp_path: Path, write: Writer) -> None:
    pq.write_table(pa.table({"pmid": [1]}), tmp_path / "other.parquet")
    with pytest.raises(UsageError, match=r"other.parquet: no column corpus, .*expected examples"):
        evaluate(str(tmp_path / "other.parquet"))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match=r"broken.parquet: cannot be read as Parquet"):
        evaluate(str(tmp_path / "broken.parquet"))
    (tmp_path / "a.jsonl").write_text("{}")
    with pytest.raises(UsageError, match=r"a.jsonl: expected Parquet"):
        evaluate(str(tmp_path / "a.jsonl"))
    row = example("a cancer", {"cancer": "disease"}, document="77")
    row["mentions"][0]["start"] = 1
    with pytest.raises(UsageError, match=r"tiny.parquet, corpus tiny, document 77, part 0: at"):
        evaluate(write([row]))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gold": "a"},
        {"predictions": "a"},
        {"corpora": ["a"], "gold": "a", "predictions": "b"},
        {"gold": "a", "predictions": "b", "few_shot": 3},
        {"corpora": ["a"], "task": "t.yaml"},
    ],
)
def test_one_way_of_evaluating_at_a_time(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|goes with"):
        EvaluateConfig(**options)


# An untuned model


@WITH_RAY
def test_few_shot_prompts_with_examples_of_the_training_split(
    tmp_path: Path, write: Writer
) -> None:
    model = tmp_path / "model"
    shutil.copytree(ROOT / "checkpoints/nano", model, ignore=shutil.ignore_patterns("pubmark.json"))
    train = [
        example(f"Patient {i} had a bad headache today.", {"headache": "disease"}, split="train")
        for i in range(9)
    ]
    test = example("fever and headache", {"fever": "disease", "headache": "disease"},
                   annotated_types=["disease"])  # fmt: skip
    source = write(numbered([*train, test, train[0] | {"split": "test"}]))
    options: dict[str, Any] = {"corpora": [source], "checkpoint": str(model),
                               "backend": "few_shot_backend:FewShotBackend"}  # fmt: skip
    (tmp_path / "task.yaml").write_text(
        "entity_types: {disease: {definition: What one suffers from.}}\ntemplate: '{text}'\n"
    )
    options["task"] = str(tmp_path / "task.yaml")
    result = run(EvaluateConfig(**options, few_shot=2))
    assert exact(result.rows[0]) == (3, 0, 0)
    assert result.of == "model, 2-shot"
    none = run(EvaluateConfig(**options, few_shot=0))
    assert exact(none.rows[0]) == (1, 0, 2)  # nothing shows it what else to mark
    with pytest.raises(UsageError, match="8 training sentences fit as examples of disease"):
        run(EvaluateConfig(**options, few_shot=12))
    with pytest.raises(UsageError, match=r"no pubmark\.json"):
        run(EvaluateConfig(corpora=[source], checkpoint=str(model), backend=FAKE))


# Files of predictions


def test_pubtator_against_pubtator(tmp_path: Path) -> None:
    text = "1|t|BRCA1 in breast cancer\n"
    (tmp_path / "g.txt").write_text(text + "1\t9\t22\tbreast cancer\tDisease\n")
    (tmp_path / "p.txt").write_text(
        text + "1\t16\t22\tcancer\tDisease\n1\t0\t5\tBRCA1\tGene\n\n2|t|Fish\n"
    )
    given = {"gold": str(tmp_path / "g.txt"), "predictions": str(tmp_path / "p.txt")}
    result = run(EvaluateConfig(**given))
    # Nobody says that genes are not annotated: what is predicted of them counts.
    assert by_name(result) == {
        ("g.txt", None): (0, 2, 1), ("g.txt", "Disease"): (0, 1, 1), ("g.txt", "Gene"): (0, 1, 0)
    }  # fmt: skip
    assert result.rows[0].scores["overlap"].counts == (1, 1, 0)
    assert (result.texts, result.missing, result.extra) == (1, 0, 1)
    narrowed = run(EvaluateConfig(**given, entity_types=["Disease"]))
    assert by_name(narrowed) == {("g.txt", "Disease"): (0, 1, 1)}
    # In any case.
    assert by_name(run(EvaluateConfig(**given, entity_types=["dISEASE"]))) == by_name(narrowed)
    with pytest.raises(UsageError, match=r"unknown entity type illness; .* have Disease, Gene"):
        run(EvaluateConfig(**given, entity_types=["illness"]))


def test_files_whose_types_differ_in_case_are_scored_and_others_are_said(tmp_path: Path) -> None:
    text = "7|t|Gout in HeLa cells\n7\t0\t4\tGout\tDisease\n7\t8\t12\tHeLa\tCellLine\n"
    (tmp_path / "g.txt").write_text(text)
    (tmp_path / "p.txt").write_text(text.replace("Disease", "disease").replace("CellL", "cell_l"))
    options = ["--gold", str(tmp_path / "g.txt"), "--predictions", str(tmp_path / "p.txt")]
    done = pubmark(*options, "--json", "--entity-types", "DISEASE")
    assert done.exit_code == 0 and "type" not in done.stderr.replace("span and type", "")
    (score,) = json.loads(done.stdout)["scores"]
    assert (score["entity_type"], score["exact"]["f1"]) == ("Disease", 1.0)
    done = pubmark(*options, "--json")
    assert done.exit_code == 0
    assert [s["entity_type"] for s in json.loads(done.stdout)["scores"]] == [
        None, "CellLine", "Disease", "cell_line",
    ]  # fmt: skip
    assert "p.txt; is it cell_line there?" in done.stderr.replace("\n", " ")


def test_a_type_whose_name_has_a_comma_is_asked_for_as_a_list(tmp_path: Path) -> None:
    text = "7|t|Gout in mice\n7\t0\t4\tGout\tDisease, any\n7\t8\t12\tmice\tSpecies\n"
    for name in ("g.txt", "p.txt"):
        (tmp_path / name).write_text(text)
    options = ["--gold", str(tmp_path / "g.txt"), "--predictions", str(tmp_path / "p.txt")]
    done = pubmark(*options, "--json", "--entity-types", '["disease, any"]')
    assert done.exit_code == 0, done.stderr
    assert [s["entity_type"] for s in json.loads(done.stdout)["scores"]] == ["Disease, any"]


def test_iob_against_iob(tmp_path: Path) -> None:
    (tmp_path / "g.iob").write_text("x O\ny I-gene\n\nz B-gene\n")
    (tmp_path / "p.iob").write_text("x O\ny B-gene\n\nz O\n")
    options = ["--gold", str(tmp_path / "g.iob"), "--predictions", str(tmp_path / "p.iob")]
    done = pubmark(*options, "--json")
    assert done.exit_code == 0, done.stderr
    (score,) = json.loads(done.stdout)["scores"]
    assert score["exact"]["precision"] == 1.0 and score["exact"]["recall"] == 0.5
    assert "sentences/s" not in done.stderr


def test_files_that_do_not_match_are_wrong_usage(tmp_path: Path) -> None:
    for name, token in (("g.iob", "a"), ("p.iob", "b")):
        (tmp_path / name).write_text(f"{token} O\n")
    done = pubmark("--gold", str(tmp_path / "g.iob"), "--predictions", str(tmp_path / "p.iob"))
    assert done.exit_code == 2 and "p.iob, line 1: the tokens are not those" in done.stderr


# The command line


def pubmark(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["evaluate", *arguments, "--backend", FAKE])


def test_json_is_one_object_with_the_headline_first(write: Writer) -> None:
    rows = [example("aspirin for cancer", {"aspirin": "chemical", "cancer": "disease"})]
    done = pubmark("--corpus", write(rows), "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found) == [
        "of", "annotator", "texts", "sentences", "prompts", "failed", "partial", "missing", "extra",
        "unplaced", "unscored", "unmarked", "seconds", "sentences_per_second", "scores",
    ]  # fmt: skip
    headline = found["scores"][0]
    assert (headline["entity_type"], headline["exact"]["f1"]) == (None, 1.0)
    assert headline["exact"]["f1_interval"] == [1.0, 1.0]
    assert {"exact", "near", "overlap"} < set(headline)


def test_a_person_sees_a_table_and_a_paper_gets_markdown(write: Writer) -> None:
    source = write([example("aspirin for cancer", {"cancer": "disease"})])
    done = pubmark("--corpus", source)
    assert done.exit_code == 0 and "overlap F1" in done.stdout and "66.67" in done.stdout
    assert "sentences/s" in done.stderr
    lines = pubmark("--corpus", source, "--markdown").stdout.splitlines()
    assert lines[0].startswith("| corpus | type | texts | gold | predicted | P | R | F1 |")
    assert lines[2].startswith("| tiny | all | 1 | 1 | 2 | 50.00 | 100.00 | 66.67 | ")
    assert len({line.count("|") for line in lines}) == 1


def test_a_failed_text_is_exit_3_and_wrong_usage_2(write: Writer) -> None:
    source = write([example("FAILS", annotated_types=["disease"])])
    assert pubmark("--corpus", source).exit_code == 3
    assert pubmark("--corpus", source, "--max-failed", "1").exit_code == 0
    done = pubmark()
    assert done.exit_code == 2 and "either corpora, or both gold and predictions" in done.stderr


def test_markdown_of_nothing_is_a_table() -> None:
    assert to_markdown(EvaluateResult("x")).count("\n") == 1
