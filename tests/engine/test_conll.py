"""What tags mark. tests/engine/test_scoring_iob.py holds it against another implementation."""

import pytest

from engine.conll import chunk


def test_i_after_o_begins_a_mention() -> None:
    assert chunk(["I-gene", "I-gene", "O", "I-gene"]) == [(0, 2, "gene"), (3, 4, "gene")]


def test_another_type_begins_another_mention() -> None:
    assert chunk(["B-gene", "I-disease"]) == [(0, 1, "gene"), (1, 2, "disease")]


def test_tags_without_a_type_are_of_one() -> None:
    assert chunk(["B", "I", "O", "I-"]) == [(0, 2, "_"), (3, 4, "_")]


@pytest.mark.parametrize("tag", ["", "o", "U-gene", "gene", "BB-gene"])
def test_what_is_no_tag_is_refused(tag: str) -> None:
    with pytest.raises(ValueError, match="expected O, or B, I, E, S"):
        chunk(["O", tag])
