"""The names of NLM's files."""

import pytest

from engine.sources.nlm import identity, nlm_number


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("pubmed26n0001.xml.gz", (26, 1)),
        ("medline17n0892.xml", (17, 892)),
        ("updatefiles/pubmed26n10000.xml.gz", (26, 10000)),
        ("pubmed26n0001.xml.gz.md5", None),
        ("pubmed26n001.xml.gz", None),
        ("pubmed2026n0001.xml.gz", None),
        ("pubmed26n0001.parquet", None),
        ("citations.jsonl", None),
    ],
)
def test_year_and_number(name: str, number: tuple[int, int] | None) -> None:
    assert nlm_number(name) == number


def test_nlms_files_are_the_same_in_any_folder_and_others_are_not() -> None:
    assert identity("a/pubmed26n0001.xml.gz") == identity("pubmed26n0001.xml.gz")
    assert identity("a/x.jsonl") == "a/x.jsonl"
