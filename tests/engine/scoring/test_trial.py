"""Citations drawn from files."""

from pathlib import Path

import pytest

from engine.scoring.trial import sample_sources
from schemas.citation import CITATION_SCHEMA
from schemas.errors import UsageError

SAMPLE = str(Path(__file__).parents[3] / "jobs/sample/pubmed_sample.xml")


def test_a_seed_draws_the_same_citations_in_the_order_of_the_file() -> None:
    everything = sample_sources([SAMPLE], 10_000, 0)
    assert everything.schema.names == CITATION_SCHEMA.names
    assert "" not in everything["text"].to_pylist()
    pmids = everything["pmid"].to_pylist()
    few = sample_sources([SAMPLE], 3, 1)["pmid"].to_pylist()
    assert few == sample_sources([SAMPLE], 3, 1)["pmid"].to_pylist()
    assert len(few) == 3 and few == [p for p in pmids if p in few]
    assert any(sample_sources([SAMPLE], 3, seed)["pmid"].to_pylist() != few for seed in range(2, 6))


def test_a_missing_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        sample_sources([str(tmp_path / "no.xml")], 3, 0)
