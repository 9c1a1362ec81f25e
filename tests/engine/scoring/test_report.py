"""Scores as cells, Markdown and JSON."""

import json

from engine.scoring.report import COLUMNS, cells, jsonable, to_markdown
from engine.scoring.scores import ScoreRow, Tally
from schemas.spans import TypedSpan


def rows(replicates: int = 0) -> list[ScoreRow]:
    tally = Tally()
    gold = [TypedSpan(0, 4, "gene"), TypedSpan(9, 12, "gene")]
    tally.add("tiny", "1", gold, [TypedSpan(0, 4, "gene"), TypedSpan(8, 12, "gene")], ["gene"])
    return tally.rows(replicates)


def test_cells_are_in_percent_and_one_a_column() -> None:
    (row,) = rows()
    expected = ["tiny", "gene", "1", "2", "2", "50.00", "50.00", "50.00", "", "100.00", "100.00"]
    assert cells(row) == expected
    assert len(expected) == len(COLUMNS)
    (row,) = rows(replicates=10)
    assert cells(row)[COLUMNS.index("95%")] == "50.00–50.00"


def test_markdown_has_a_line_a_row() -> None:
    lines = to_markdown(rows()).splitlines()
    assert lines[0].startswith("| corpus | type | texts | gold |")
    assert lines[1].startswith("| --- | --- | ---: | ---: |")
    assert len(lines) == 3 and len({line.count("|") for line in lines}) == 1
    assert to_markdown([]).count("\n") == 1


def test_json_has_shares_and_null_where_nothing_was_resampled() -> None:
    (row,) = rows()
    values = json.loads(json.dumps(jsonable(row)))
    assert (values["corpus"], values["entity_type"], values["documents"]) == ("tiny", "gene", 1)
    assert values["exact"] == {
        "tp": 1, "fp": 1, "fn": 1, "precision": 0.5, "recall": 0.5, "f1": 0.5,
        "precision_interval": None, "recall_interval": None, "f1_interval": None,
    }  # fmt: skip
    (row,) = rows(replicates=10)
    assert jsonable(row)["near"]["f1_interval"] == [1.0, 1.0]
