"""The real corpora: what is imported agrees with what their README counts. Skips without them."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.corpora.examples import Counts
from jobs.corpus import CorpusImportResult, describe, run
from schemas.configs.corpus import CorpusImportConfig
from schemas.configs.load import load_config

CONFIG = Path(__file__).parents[3] / "jobs/configs/corpora.yaml"

LINES = {
    # Sentences and mentions of train and test, as ../shared/data/README.md counts them.
    "BC2GM": ((12500, 15195), (4999, 6324)),
    "BC5CDR-chemical": ((4560, 5203), (4797, 5385)),
    "BC5CDR-disease": ((4560, 4182), (4797, 4424)),
    "NCBI-disease": ((5424, 5132), (940, 957)),
    "NLMChem": ((18604, 21273), (10916, 11799)),
    "NLMGene": ((5051, 12798), (1128, 2755)),
}
DOCUMENTS = {
    # Distinct ids of the train file, then of the test file; and mentions by type of either.
    "BC5CDR": (1000, 500, {"Chemical": 10548, "Disease": 8426},
               {"Chemical": 5372, "Disease": 4424}),
    "NCBI-disease": (
        692, 100,
        {"SpecificDisease": 3384, "Modifier": 1503, "DiseaseClass": 895, "CompositeMention": 150},
        {"SpecificDisease": 555, "Modifier": 264, "DiseaseClass": 121, "CompositeMention": 20},
    ),
    "NLMChem": (0, 50, {}, {"Chemical": 11772, "OTHER": 570, "NonStandardRef": 69}),
    "NLMGene": (
        450, 100,
        {"Gene": 11233, "FamilyName": 1528, "Cell": 956, "DomainMotif": 71,
         "ChromosomeLocation": 9},
        {"Gene": 2365, "FamilyName": 391, "Cell": 272, "DomainMotif": 20, "ChromosomeLocation": 5},
    ),
    "GNormPlus": (432, 262, {"Gene": 4246, "FamilyName": 1253, "DomainMotif": 294},
                  {"Gene": 3288, "FamilyName": 1202, "DomainMotif": 359}),
    "BioRED": (
        500, 100,
        {"Gene": 5517, "Disease": 4628, "Chemical": 3675, "Species": 1799, "Variant": 1140,
         "CellLine": 125},
        {"Gene": 1180, "Disease": 917, "Chemical": 754, "Species": 393, "Variant": 241,
         "CellLine": 50},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def imported(
    shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[CorpusImportResult, pa.Table]]:
    to = tmp_path_factory.mktemp("examples")
    settings = load_config(
        CorpusImportConfig, str(CONFIG), {"root": str(shared / "data"), "to": str(to)}
    )
    yield run(settings), pa.concat_tables(pq.read_table(p) for p in to.glob("*.parquet"))


def counts(result: CorpusImportResult, corpus: str, unit: str) -> tuple[list[Counts], Counts]:
    """Of all that was a train file, and of the test."""
    (found,) = (i for i in result.imported if (i.corpus, i.unit) == (corpus, unit))
    return [c for s, c in found.counts.items() if s != "test"], found.counts["test"]


def test_lines_add_up(imported: tuple[CorpusImportResult, pa.Table]) -> None:
    for corpus, expected in LINES.items():
        train, test = counts(imported[0], corpus, "sentence")
        for parts, (sentences, mentions) in zip((train, [test]), expected, strict=True):
            assert sum(c.examples + c.quarantined_units for c in parts) == sentences, corpus
            found = sum(c.mentions.total() + c.lost + c.unplaced for c in parts)
            assert found == mentions, corpus
            assert not any(c.left_out or c.merged for c in parts)


@pytest.mark.parametrize("unit", ["sentence", "citation"])
def test_documents_add_up(imported: tuple[CorpusImportResult, pa.Table], unit: str) -> None:
    for corpus, (in_train, in_test, *expected) in DOCUMENTS.items():
        train, test = counts(imported[0], f"{corpus}-pubtator", unit)
        assert sum(c.documents for c in train) == in_train
        assert test.documents == in_test
        for parts, by_type in zip((train, [test]), expected, strict=True):
            read = sum((c.read for c in parts), Counter())
            # A mention given twice in GNormPlus counts twice in the README.
            assert read.total() + sum(c.unplaced for c in parts) == sum(by_type.values())
            assert all(0 <= by_type[t] - read[t] <= 1 for t in by_type), corpus
            assert sum(c.examples + c.quarantined_units for c in parts) >= (
                sum(c.documents for c in parts)
            )
            assert read.total() == sum(
                c.mentions.total() + c.left_out.total() + c.lost + c.merged for c in parts
            )


def test_the_docs_have_the_same_tables(imported: tuple[CorpusImportResult, pa.Table]) -> None:
    docs = (CONFIG.parents[2] / "docs/corpora.md").read_text(encoding="utf-8")
    for table in describe(imported[0]).split("\n\n"):
        assert table in docs


def test_published_dev_splits(imported: tuple[CorpusImportResult, pa.Table]) -> None:
    by_corpus = {i.corpus: i.counts for i in imported[0].imported if i.unit == "citation"}
    assert by_corpus["BC5CDR-pubtator"]["dev"].documents == 500
    assert by_corpus["NCBI-disease-pubtator"]["dev"].documents == 100


def test_no_document_is_in_train_and_dev(imported: tuple[CorpusImportResult, pa.Table]) -> None:
    splits: dict[int, set[str]] = {}
    known = Counter()
    for row in imported[1].select(["corpus", "split", "pmid"]).to_pylist():
        known[row["corpus"], row["pmid"] is not None] += 1
        if row["pmid"] is not None and row["split"] != "test":
            splits.setdefault(row["pmid"], set()).add(row["split"])
    assert {"train", "dev"} not in splits.values()
    for corpus in ("BC5CDR-chemical", "BC5CDR-disease", "NCBI-disease", "NLMGene"):
        assert known[corpus, True] > 250 * known[corpus, False], corpus


def test_every_mention_is_what_stands_there(
    imported: tuple[CorpusImportResult, pa.Table],
) -> None:
    names = set()
    for row in imported[1].to_pylist():
        names.add((row["corpus"], row["unit"], row["document"], row["part"]))
        assert row["text"]
        spans = [(m["start"], m["end"], m["entity_type"]) for m in row["mentions"]]
        assert spans == sorted(set(spans))
        for m in row["mentions"]:
            assert row["text"][m["start"] : m["end"]] == m["text"] != ""
            assert m["entity_type"] in row["annotated_types"]
    assert len(names) == len(imported[1])
