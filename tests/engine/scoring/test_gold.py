"""Which types a task and gold texts have in common, and by what names."""

from pathlib import Path

import pytest

from engine.checkpoints.load import Checkpoint
from engine.corpora.importer import Corpus, import_corpora
from engine.scoring.gold import GoldText, find_examples, read_gold, types_in_common, with_names
from schemas.errors import UsageError
from schemas.spans import TypedSpan


def gold(*types: str) -> GoldText:
    return GoldText("c", "1", "text", 0, True, [], frozenset(types))


def test_types_in_common_are_in_the_order_of_the_task(nano: Checkpoint) -> None:
    task = nano.manifest.task
    assert types_in_common([gold("gene", "species"), gold("disease")], task) == ["disease", "gene"]


def test_no_type_in_common_is_refused_by_name(nano: Checkpoint) -> None:
    message = "gold has species, the task asks for disease, chemical, gene: no entity type in com"
    with pytest.raises(UsageError, match=message):
        types_in_common([gold("species")], nano.manifest.task)


def test_types_that_differ_in_case_only_are_in_common(nano: Checkpoint) -> None:
    task = nano.manifest.task
    assert types_in_common([gold("GENE"), gold("Disease")], task) == ["disease", "gene"]
    text = GoldText(
        "c", "1", "BRCA1 HeLa", 0, True,
        [TypedSpan(0, 5, "Gene"), TypedSpan(6, 10, "CellLine")], frozenset({"Gene", "CellLine"}),
    )  # fmt: skip
    (named,) = with_names([text], task.entity_types)
    assert named.mentions == [TypedSpan(0, 5, "gene"), TypedSpan(6, 10, "CellLine")]
    assert named.annotated_types == {"gene", "CellLine"}


def test_a_task_that_tells_names_by_their_case_is_heeded() -> None:
    (named,) = with_names([gold("Gene", "gene", "GENE")], ["gene", "Gene"])
    assert named.annotated_types >= {"gene", "Gene"}


def test_a_folder_of_an_import_is_read_without_what_it_has_quarantined(tmp_path: Path) -> None:
    source = tmp_path / "a.pubtator"
    source.write_text(
        "1|t|Gout\n1|a|\n1\t0\t4\tGout\tDisease\n\n2|t|Flu\n2|a|\n2\t0\t9\tx\tDisease\n"
    )
    import_corpora([Corpus("C", {"test": [str(source)]})], str(tmp_path / "to"))
    (text,) = read_gold([str(tmp_path / "to")], "test")
    assert text.text == "Gout"
    with pytest.raises(UsageError, match=r"quarantine.jsonl: expected Parquet"):
        find_examples([str(tmp_path / "to/C.sentences.quarantine.jsonl")])
