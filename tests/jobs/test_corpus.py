"""``pubmark corpus import`` from the command line."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from jobs.cli import app

PUBTATOR = (
    "7|t|Gout\n7|a|Flu is. Not.\n7\t0\t4\tGout\tDisease\n7\t5\t8\tflu\tDisease\n7\t9\t11\tis\tX\n"
)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    file = tmp_path / "mine.pubtator"
    file.write_text(PUBTATOR)
    return file


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["corpus", "import", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_a_file(corpus: Path, tmp_path: Path) -> None:
    code, out, err = run(corpus, "--types", "Disease=disease,X=", "--to", tmp_path / "to")
    assert (code, err) == (0, "")
    made, faults = out.strip().split("\n\n")
    assert made.splitlines()[2:] == [
        "| mine | sentence | train | 1 | 2 | 1 | disease 1 | 1 with 1 mention | X 1 |"
    ]
    assert faults.splitlines()[2:] == ["| mine | sentence | train | text differs | 1 | 0 |"]
    rows = pq.read_table(tmp_path / "to/mine.sentences.parquet").to_pylist()
    assert [r["text"] for r in rows] == ["Gout", "Not."]
    quarantine = (tmp_path / "to/mine.sentences.quarantine.jsonl").read_text().splitlines()
    assert [json.loads(q)["text"] for q in quarantine] == ["Flu is."]


def test_options(corpus: Path, tmp_path: Path) -> None:
    code, out, _ = run(
        corpus.name, "--root", tmp_path, "--corpus", "M", "--split", "test", "--unit", "citation",
        "--format", "pubtator", "--to", tmp_path, "--json",
    )  # fmt: skip
    assert code == 0
    (found,) = json.loads(out)
    assert (found["corpus"], found["unit"], found["annotated_types"]) == (
        "M",
        "citation",
        ["disease", "x"],
    )
    assert found["counts"]["test"]["mentions"] == {"disease": 2, "x": 1}
    assert found["counts"]["test"]["reported"] == {"text differs": 1}
    assert found["paths"] == [
        f"{tmp_path}/M.citations.parquet", f"{tmp_path}/M.citations.quarantine.jsonl",
    ]  # fmt: skip


def test_a_config_of_several(corpus: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        f"root: {tmp_path}\nto: {tmp_path}/to\ncorpora:\n"
        "  - {name: A, files: {train: mine.pubtator}, types: {Disease: disease, X: null}}\n"
        "  - {name: B, files: {test: [mine.pubtator]}, units: [citation]}\n"
    )
    code, _, _ = run("--config", config)
    assert code == 0
    assert sorted(p.name for p in (tmp_path / "to").glob("*.parquet")) == [
        "A.sentences.parquet", "B.citations.parquet",
    ]  # fmt: skip
    code, _, err = run("--config", config)
    assert code == 2
    assert "exists; --force replaces it" in err
    assert run("--config", config, "--force")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "corpora"),
        (["none.pubtator", "--to", "to"], "none.pubtator: cannot be read"),
        (["{corpus}", "--to", "to", "--types", "Disease=disease"], "entity type 'X', expected one"),
        (["{corpus}", "--to", "to", "--types", "what"], "types 'what': expected BC5CDR"),
        (["{corpus}", "--to", "s3://bucket/to"], "expected a local folder"),
        (["{corpus}", "--to", "to", "--corpus", "a/b"], "corpora.0.name"),
        (["{corpus}", "--to", "to", "--format", "mark"], ""),
    ],
)
def test_wrong_usage_is_2(
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*[a.format(corpus=corpus) for a in arguments])
    if arguments[-1:] != ["mark"]:
        assert (code, out) == (2, "")
        assert message in err.replace("\n", " ")
        assert not list((tmp_path).glob("to/*"))


def test_nothing_of_a_corpus_is_2_and_nothing_of_a_file_is_3(corpus: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.conll"
    bad.write_text("Gout\nhurts\n")
    code, out, err = run(bad, "--to", tmp_path / "to")
    assert (code, out) == (2, "")
    assert "corpus bad: no sentence of it became an example" in err
    assert "bad.conll, line 1: malformed line: Gout, expected a token and a tag" in err
    assert not (tmp_path / "to").exists()
    good = tmp_path / "good.conll"
    good.write_text("Gout B-Disease +\nhurts O -\n")
    code, out, err = run(good, bad, "--to", tmp_path / "to", "--json")
    assert code == 3
    assert err.startswith(f"corpus good, no sentence of train file {bad}: all of 1 text set aside")
    assert json.loads(out)[0]["counts"]["train"]["mentions"] == {"disease": 1}
    assert json.loads(out)[0]["without_examples"][0].startswith(f"train file {bad}: all of 1 text")
    assert pq.read_table(tmp_path / "to/good.sentences.parquet").num_rows == 1


@pytest.mark.parametrize("split", ["train", "test"])
def test_mentions_at_no_place_are_no_gold(tmp_path: Path, split: str) -> None:
    (tmp_path / "b.txt").write_text("Gout and flu in mice.")
    (tmp_path / "b.ann").write_text("T1\tDisease 2 6\tGout\nT2\tDisease 11 14\tflu\n")
    code, _, err = run(tmp_path / "b.ann", "--split", split, "--to", tmp_path / "to")
    assert code == 2 and "text differs" in err
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("split", ["train", "test"])
def test_offsets_in_another_count_are_read_and_said(tmp_path: Path, split: str) -> None:
    (tmp_path / "b.txt").write_bytes("😀 Gout.\r\nThe flu.\r\n".encode())
    (tmp_path / "b.ann").write_text("T1\tDisease 3 7\tGout\nT2\tDisease 13 16\tflu\n")
    code, out, _ = run(tmp_path / "b.ann", "--split", split, "--to", tmp_path / "to", "--json")
    assert code == 0
    assert json.loads(out)[0]["counts"][split]["quarantined_units"] == 0
    rows = pq.read_table(tmp_path / "to/b.sentences.parquet").to_pylist()
    assert [m["text"] for row in rows for m in row["mentions"]] == ["Gout", "flu"]


def test_types_whose_names_have_commas(tmp_path: Path) -> None:
    file = tmp_path / "c.pubtator"
    file.write_text("7|t|Gout in HeLa\n7\t0\t4\tGout\tDisease, any\n7\t8\t12\tHeLa\tCell=line\n")
    types = '{"Disease, any": "disease, any", Cell=line: null}'
    code, out, _ = run(file, "--types", types, "--to", tmp_path / "to", "--json")
    assert code == 0
    (found,) = json.loads(out)
    assert found["annotated_types"] == ["disease, any"]
    assert found["counts"]["train"]["left_out"] == {"Cell=line": 1}
    code, _, err = run(file, "--types", '{"Disease, any"', "--to", tmp_path / "to")
    assert code == 2 and "is no YAML" in err


def test_an_empty_corpus(tmp_path: Path) -> None:
    (tmp_path / "e.pubtator").write_text("\n")
    code, _, err = run(tmp_path / "e.pubtator", "--to", tmp_path / "to")
    assert code == 2
    assert "corpus e" in err
    assert "holds no text" in err
