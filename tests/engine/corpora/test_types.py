"""Own types to ours."""

from pathlib import Path

import pytest

from bench.corpora import types_table
from engine.corpora.formats.texts import REASONS
from engine.corpora.types import CORPUS_TYPES, parse_type_map
from schemas.errors import UsageError

DOCS = Path(__file__).parents[3] / "docs/corpora.md"
OURS = {"disease", "chemical", "gene", "species", "variant", "cell_line", None}


def test_types_become_themselves_without_a_mapping() -> None:
    types = parse_type_map(None)
    assert [types.map("CellLine", "p"), types.map("Gene", "p")] == ["cellline", "gene"]
    assert types.annotated == ["cellline", "gene"]


def test_a_mapping() -> None:
    for given in ("Disease=disease, Cell= ,Modifier=disease",
                  {"Disease": "disease", "Cell": None, "Modifier": "disease"}):  # fmt: skip
        types = parse_type_map(given)
        assert [types.map(t, "p") for t in ("Modifier", "Cell")] == ["disease", None]
        assert types.annotated == ["disease"]


def test_a_mapping_of_names_with_commas() -> None:
    types = parse_type_map('{"Disease, any": disease, "A=b": "c, d", Cell: null, Other: ""}')
    assert [types.map(t, "p") for t in ("Disease, any", "A=b", "Cell", "Other")] == [
        "disease", "c, d", None, None,
    ]  # fmt: skip
    assert types.annotated == ["c, d", "disease"]


@pytest.mark.parametrize("value", ["{", "{A: 1}", "{A: [a]}", "{1: a}", "{A: a} x"])
def test_a_mapping_that_is_no_yaml_of_names(value: str) -> None:
    with pytest.raises(UsageError, match=r"types '\{.*: (is no YAML|expected names)"):
        parse_type_map(value)


@pytest.mark.parametrize("value", ["", "Disease", "=disease", "A=a,A=b", "A=a,", "bc5cdr"])
def test_no_mapping(value: str) -> None:
    with pytest.raises(UsageError, match=r"expected BC5CDR, .*, or Own=ours,Other="):
        parse_type_map(value)


@pytest.mark.parametrize("name", CORPUS_TYPES)
def test_built_in_mappings_say_why(name: str) -> None:
    assert all(t.why and t.ours in OURS for t in CORPUS_TYPES[name].values())
    assert parse_type_map(name).annotated == sorted(
        {t.ours for t in CORPUS_TYPES[name].values() if t.ours}
    )


def test_the_docs_say_what_the_code_does() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert types_table() in text
    assert all(f"| {reason} | {what} |" in text for reason, what in REASONS.items())
