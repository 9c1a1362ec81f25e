"""Names of entity types that differ in case only."""

from engine.scoring.types import alike, spell, spellings


def test_the_most_frequent_spelling_stands_for_all() -> None:
    chosen = spellings(["gene", "Gene", "Gene", "Straße", "DISEASE", "disease"])
    assert chosen == {"gene": "Gene", "strasse": "Straße", "disease": "DISEASE"}
    assert [spell(n, chosen) for n in ("GENE", "STRASSE", "cell")] == ["Gene", "Straße", "cell"]


def test_names_with_the_same_letters_are_alike() -> None:
    assert alike("cell_line", ["Gene", "CellLine", "Cell line"]) == "CellLine"
    assert alike("cell_line", ["Cell"]) is None
