"""Names of entity types that differ in case only."""

from engine.scoring.types import alike, spell, speller, spellings


def test_the_most_frequent_spelling_stands_for_all() -> None:
    chosen = spellings(["gene", "Gene", "Gene", "Straße", "DISEASE", "disease"])
    assert chosen == {"gene": "Gene", "strasse": "Straße", "disease": "DISEASE"}
    assert [spell(n, chosen) for n in ("GENE", "STRASSE", "cell")] == ["Gene", "Straße", "cell"]


def test_the_very_name_comes_before_one_in_another_case() -> None:
    named = speller(["gene", "Gene", "DISEASE"])
    assert [named(n) for n in ("Gene", "gene", "GENE", "Disease", "cell")] == [
        "Gene", "gene", "gene", "DISEASE", "cell",
    ]  # fmt: skip


def test_names_with_the_same_letters_are_alike() -> None:
    assert alike("cell_line", ["Gene", "CellLine", "Cell line"]) == "CellLine"
    assert alike("cell_line", ["Cell"]) is None
