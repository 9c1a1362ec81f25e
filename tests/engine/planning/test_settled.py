"""Which rows need not be written, for a batch that is about to be."""

import pyarrow as pa

from engine.planning.settled import outranked_pmids


def test_rows_of_later_files_outrank() -> None:
    old, new, own = "a/pubmed26n0003.xml.gz", "b/pubmed26n0010.xml.gz", "mine.jsonl"
    pairs = [(old, new), (new, old), (new, new), (own, old), (old, own), (own, own), (old, None)]
    ours = pa.table({"pmid": range(7), "source": [o for o, _ in pairs]})
    theirs = pa.table({"pmid": range(7), "source": [t for _, t in pairs]})
    assert sorted(outranked_pmids(theirs, ours).to_pylist()) == [0, 4]
