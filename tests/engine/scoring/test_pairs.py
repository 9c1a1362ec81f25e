"""Two files of the same texts: what is matched with what, and what is refused."""

import gzip
from pathlib import Path

import pytest

from engine.scoring.pairs import read_pairs, score_pairs, unmatched_types
from schemas.errors import UsageError

GOLD = """\
1|t|Aspirin and cancer
1|a|We gave aspirin.
1\t0\t7\tAspirin\tChemical\tD001241
1\t12\t18\tcancer\tDisease

2|t|Diabetes
2|a|
2\t0\t8\tDiabetes\tDisease
"""
PREDICTED = """\
2|t|Diabetes
2|a|
2\t0\t8\tDiabetes\tDisease

1|t|Aspirin and cancer
1|a|We gave aspirin.
1\t0\t7\tAspirin\tChemical
1\t27\t34\taspirin\tChemical
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    gold, predictions = tmp_path / "gold.txt", tmp_path / "predicted.txt"
    gold.write_text(GOLD)
    predictions.write_text(PREDICTED)
    return gold, predictions


def pairs(gold: Path, predictions: Path) -> dict[str, tuple[int, int]]:
    """Numbers of gold and predicted mentions."""
    found = read_pairs(str(gold), str(predictions)).pairs
    return {p.document: (len(p.gold), len(p.predicted)) for p in found}


def fault(gold: Path, predictions: Path) -> str:
    with pytest.raises(UsageError) as e:
        read_pairs(str(gold), str(predictions))
    return str(e.value)


def test_documents_are_matched_by_id(files: tuple[Path, Path]) -> None:
    assert pairs(*files) == {"1": (2, 2), "2": (1, 1)}


def test_gzip_is_read_too(files: tuple[Path, Path]) -> None:
    gold, predictions = files
    predictions.write_bytes(gzip.compress(predictions.read_bytes()))
    assert pairs(gold, predictions) == {"1": (2, 2), "2": (1, 1)}


def test_what_is_missing_counts_as_nothing_found_and_what_is_extra_is_left_out(
    files: tuple[Path, Path],
) -> None:
    gold, predictions = files
    predictions.write_text("3|t|Fish\n\n2|t|Diabetes\n")
    found = read_pairs(str(gold), str(predictions))
    assert (found.missing, found.extra) == (["1"], ["3"])
    assert [(p.document, len(p.gold), len(p.predicted)) for p in found.pairs] == [
        ("1", 2, 0),
        ("2", 1, 0),
    ]


def test_an_id_that_stands_twice_is_matched_in_order(tmp_path: Path) -> None:
    gold, predictions = tmp_path / "g", tmp_path / "p"
    gold.write_text("7|t|One gene\n7\t0\t3\tOne\tGene\n\n7|t|Two\n")
    predictions.write_text("7|t|One gene\n\n7|t|Two\n7\t0\t3\tTwo\tGene\n")
    found = read_pairs(str(gold), str(predictions)).pairs
    assert [(len(p.gold), len(p.predicted)) for p in found] == [(1, 0), (0, 1)]
    assert fault(gold, tmp_path / "no").startswith(f"{tmp_path / 'no'}: cannot be read")


def test_another_text_is_refused_by_name(files: tuple[Path, Path]) -> None:
    gold, predictions = files
    predictions.write_text(PREDICTED.replace("1|a|We gave", "1|a|We  gave"))
    said = fault(gold, predictions)
    assert "predicted.txt, line 5, document 1: the text is not that of" in said
    assert "at 22 stands ' gave aspirin.', expected 'gave aspirin.'" in said


def test_a_mention_outside_the_text_is_refused(files: tuple[Path, Path]) -> None:
    gold, predictions = files
    predictions.write_text(PREDICTED.replace("27\t34", "27\t99"))
    assert "predicted.txt, line 8, document 1: outside the text" in fault(gold, predictions)


def test_formats_may_not_differ_and_an_empty_file_has_none(files: tuple[Path, Path]) -> None:
    gold, predictions = files
    predictions.write_text("x\tO\n")
    assert "is PubTator, " in fault(gold, predictions)
    predictions.write_text("\n")
    assert fault(gold, predictions).endswith("is empty; expected PubTator or IOB")
    assert "cannot be read" in fault(gold, gold.parent)


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ('<?xml version="1.0"?>', "BioC XML"),
        ('{"documents": []}', "BioC JSON"),
        ("We gave <mark>aspirin</mark> .", "text with <mark>"),
    ],
)
def test_another_format_is_named(files: tuple[Path, Path], line: str, title: str) -> None:
    gold, predictions = files
    predictions.write_text(line + "\n")
    expected = f"{predictions}: is {title}; expected PubTator or IOB"
    assert fault(gold, predictions) == fault(predictions, gold) == expected


# Counts


def test_every_type_of_either_file_is_scored_unless_narrowed(files: tuple[Path, Path]) -> None:
    found = read_pairs(*map(str, files))
    rows = {r.entity_type: r.scores["exact"].counts for r in score_pairs(found).rows(0)}
    assert rows == {None: (2, 1, 1), "Chemical": (1, 1, 0), "Disease": (1, 0, 1)}
    (row,) = score_pairs(found, ["Disease"]).rows(0)
    assert (row.corpus, row.entity_type, row.scores["exact"].counts) == (
        "gold.txt", "Disease", (1, 0, 1)
    )  # fmt: skip
    with pytest.raises(UsageError, match=r"unknown entity type x; .* have Chemical, Disease"):
        score_pairs(found, ["Disease", "x"])


Rows = dict[str | None, tuple[int, ...]]


def scored(gold: Path, predictions: Path, *types: str) -> Rows:
    found = read_pairs(str(gold), str(predictions))
    rows = score_pairs(found, types or None).rows(0)
    return {r.entity_type: r.scores["exact"].counts for r in rows}


def unmatched(gold: Path, predictions: Path, *types: str) -> list[str]:
    return unmatched_types(read_pairs(str(gold), str(predictions)), types or None)


def test_types_that_differ_in_case_only_are_one_by_the_name_in_gold(
    files: tuple[Path, Path],
) -> None:
    gold, predictions = files
    same: Rows = {None: (2, 1, 1), "Chemical": (1, 1, 0), "Disease": (1, 0, 1)}
    for one, other in (("Chemical", "chemical"), ("Disease", "DISEASE")):
        predictions.write_text(predictions.read_text().replace(one, other))
    assert scored(*files) == same
    assert scored(*files, "CHEMICAL", "disease") == same
    assert scored(*files, "chemical") == {"Chemical": (1, 1, 0)}
    assert unmatched(*files) == []
    # Also within a file, where the most frequent name stands for all.
    gold.write_text(GOLD + "\n3|t|Gout\n3\t0\t4\tGout\tdisease\n")
    assert scored(*files) == {None: (2, 1, 2), "Chemical": (1, 1, 0), "Disease": (1, 0, 2)}


def test_the_same_span_by_two_spellings_counts_once(tmp_path: Path) -> None:
    (tmp_path / "g").write_text("7|t|Gout\n7\t0\t4\tGout\tDisease\n7\t0\t4\tGout\tdisease\n")
    (tmp_path / "p").write_text("7|t|Gout\n7\t0\t4\tGout\tDISEASE\n")
    assert scored(tmp_path / "g", tmp_path / "p") == {"Disease": (1, 0, 0)}


def test_a_type_without_counterpart_is_said(files: tuple[Path, Path]) -> None:
    gold, predictions = files
    predictions.write_text(PREDICTED.replace("Disease", "Illness"))
    assert unmatched(*files) == [
        f"type Disease has 2 mentions in {gold} and none in {predictions}",
        f"type Illness has 1 mention in {predictions} and none in {gold}",
    ]
    assert unmatched(*files, "chemical") == []
    assert unmatched(*files, "illness") == [
        f"type Illness has 1 mention in {predictions} and none in {gold}"
    ]


@pytest.mark.parametrize("name", ["cell_line", "Cell line", "cell-line", "CELLLINE"])
def test_a_type_that_is_written_otherwise_is_hinted_at(tmp_path: Path, name: str) -> None:
    gold, predictions = tmp_path / "g", tmp_path / "p"
    gold.write_text("7|t|HeLa\n7\t0\t4\tHeLa\tCellLine\n")
    predictions.write_text(f"7|t|HeLa\n7\t0\t4\tHeLa\t{name}\n")
    if name == "CELLLINE":
        assert unmatched(gold, predictions) == []
        return
    assert unmatched(gold, predictions) == [
        f"type CellLine has 1 mention in {gold} and none in {predictions}; is it {name} there?",
        f"type {name} has 1 mention in {predictions} and none in {gold}; is it CellLine there?",
    ]
    assert scored(gold, predictions) == {
        None: (0, 1, 1), "CellLine": (0, 0, 1), name: (0, 1, 0),
    }  # fmt: skip


def test_predictions_with_other_relations_and_another_count_are_scored(
    files: tuple[Path, Path],
) -> None:
    gold, predictions = files
    gold.write_text(GOLD.replace("1\t12", "1\tnegative_correlate\tD1\tD2\n1\t12"))
    from_passage = PREDICTED.replace("27\t34", "8\t15")
    predictions.write_text(from_passage)
    assert scored(*files) == {None: (2, 1, 1), "Chemical": (1, 1, 0), "Disease": (1, 0, 1)}


def test_predictions_at_no_place_are_refused(files: tuple[Path, Path]) -> None:
    gold, predictions = files
    predictions.write_text(PREDICTED.replace("0\t7\tAsp", "3\t9\tAsp").replace("27\t34", "25\t32"))
    assert "document 1: text differs: 2 of 2 mentions" in fault(gold, predictions)


# IOB


def write(folder: Path, gold: str, predicted: str) -> tuple[Path, Path]:
    (folder / "g.iob").write_text(gold)
    (folder / "p.iob").write_text(predicted)
    return folder / "g.iob", folder / "p.iob"


def test_sentences_are_matched_by_order(tmp_path: Path) -> None:
    gold = "a\tB-x\nb\tI-x\n\n\n\nc\tO\n"
    predicted = "a\tI-x\nb\tI-x\n\nc\tI-x"
    assert pairs(*write(tmp_path, gold, predicted)) == {"g:1": (1, 1), "g:6": (0, 1)}


def test_types_of_sentences_may_differ_in_case(tmp_path: Path) -> None:
    gold = "a B-Disease\nb I-Disease\nc O\n\nd B-Gene\n"
    predicted = "a B-disease +\nb I-disease -\nc O -\n\nd B-GENE +\n"
    files = write(tmp_path, gold, predicted)
    assert scored(*files) == {None: (2, 0, 0), "Disease": (1, 0, 0), "Gene": (1, 0, 0)}


@pytest.mark.parametrize(
    ("predicted", "said"),
    [
        ("a\tO\nBad\tO\n\nc\tO\n", "p.iob, line 1: the tokens are not those of "),
        ("a\tO\nBad\tO\n\nc\tO\n", "g.iob, line 1: at 2 stands 'Bad', expected 'b'"),
        ("a\tO\n\nb\tO\nc\tO\n", "p.iob, line 1: the tokens are not those of "),
        ("a\tO\nb\tO\nc\tO\n", "p.iob, line 1: the tokens are not those of "),
        ("a\tO\nb\tO\n\nd\tO\n", "p.iob, line 4: the tokens are not those of "),
        ("a\tO\nb\tO\n", "g.iob, line 4"),
        ("a\tO\nb\tO\n\nc\tO\n\nd\tO", "p.iob: 3 sentences, expected 2"),
        ("a\tO\nb\n", "p.iob, line 2: malformed line: b, expected a token"),
        ("a\tX-y\n", "p.iob, line 1: malformed line"),
    ],
)
def test_other_tokens_are_refused_by_line(tmp_path: Path, predicted: str, said: str) -> None:
    assert said in fault(*write(tmp_path, "a\tO\nb\tO\n\nc\tO\n", predicted))
