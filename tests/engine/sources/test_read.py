"""A shard as Arrow: the two passes agree, whatever is in the file."""

import gzip
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.sources.read import SCAN_SCHEMA, read_citations, scan_shard
from engine.sources.shards import Shard, find_shards
from schemas.citation import CITATION_SCHEMA, digest_text

AWKWARD_FILE = Path(__file__).parents[2] / "data/awkward.xml"


def shard_of(path: Path, data: bytes) -> Shard:
    path.write_bytes(data)
    [shard] = find_shards([str(path)])
    return shard


def xml(*titles: str) -> bytes:
    """Citations 1, 2, … with these titles."""
    records = [
        f"<PubmedArticle><MedlineCitation><PMID>{n}</PMID><Article><ArticleTitle>{t}</ArticleTitle>"
        "</Article></MedlineCitation></PubmedArticle>"
        for n, t in enumerate(titles, 1)
    ]
    return f"<PubmedArticleSet>{''.join(records)}</PubmedArticleSet>".encode()


def scan(shard: Shard) -> dict[str, object]:
    table = scan_shard(shard, 3)
    assert table.schema == SCAN_SCHEMA
    [row] = table.to_pylist()
    return row


def read(shard: Shard, wanted: np.ndarray | None = None, batch_rows: int = 64) -> pa.Table:
    return pa.Table.from_batches(read_citations(shard, wanted, batch_rows), CITATION_SCHEMA)


@pytest.fixture
def five(tmp_path: Path) -> Shard:
    return shard_of(tmp_path / "five.xml", xml("a", "b", "", "d", "e"))


def test_scan_of_an_awkward_file() -> None:
    [shard] = find_shards([str(AWKWARD_FILE)])
    citations = read(shard)
    texts = citations["text"].to_pylist()
    assert scan(shard) == {
        "shard": 3,
        "pmid": [99100001, 99100002, 99100002, 99100003],
        "version": [1, 1, 2, 1],
        "text_digest": [digest_text(text) for text in texts],
        "metadata_digest": citations["metadata_digest"].to_pylist(),
        "empty": [False] * 4,
        "deleted": [99100004, 99100005],
        "rejected": [{"place": "record 4", "reason": "no PMID, expected a positive whole number"}],
        "broken": [],
        "damage": None,
        "md5": hashlib.md5(AWKWARD_FILE.read_bytes()).hexdigest(),
    }


def test_the_two_passes_agree(tmp_path: Path) -> None:
    rows = [{"pmid": n, "title": f"T{n}", "abstract": "A." * (n % 3)} for n in range(1, 300)]
    text = "\n".join(json.dumps(row) for row in rows)
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text(text)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "a.xml").write_bytes(xml(*(str(row["title"]) for row in rows)))
    shards = find_shards([str(tmp_path)])
    assert len(shards) == 4
    for shard in shards:
        keys, citations = scan(shard), read(shard)
        assert keys["pmid"] == citations["pmid"].to_pylist() == list(range(1, 300))
        assert keys["version"] == citations["version"].to_pylist()
        assert keys["text_digest"] == citations["text_digest"].to_pylist()
        assert set(citations["source"].to_pylist()) == {shard.name}


def test_empty_says_which_citations_have_no_text(five: Shard) -> None:
    assert scan(five)["empty"] == [False, False, True, False, False]


@pytest.mark.parametrize(
    ("wanted", "pmids"),
    [
        (None, [1, 2, 3, 4, 5]),
        ([True] * 5, [1, 2, 3, 4, 5]),
        ([False, True, False, False, True], [2, 5]),
        ([False] * 5, []),
    ],
)
def test_mask(five: Shard, wanted: list[bool] | None, pmids: list[int]) -> None:
    mask = None if wanted is None else np.array(wanted)
    assert read(five, mask)["pmid"].to_pylist() == pmids


def test_mask_counts_citations_only(tmp_path: Path) -> None:
    # The mask is made from what scanning found, where rejected lines have no place.
    shard = shard_of(tmp_path / "a.jsonl", b'[]\n{"pmid": 1}\n{"pmid": 0}\n{"pmid": 2}\n')
    assert read(shard, np.array([False, True]))["pmid"].to_pylist() == [2]


@pytest.mark.parametrize(
    ("batch_rows", "sizes"), [(1, [1, 1, 1, 1, 1]), (2, [2, 2, 1]), (5, [5]), (64, [5])]
)
def test_batch_sizes(five: Shard, batch_rows: int, sizes: list[int]) -> None:
    batches = list(read_citations(five, batch_rows=batch_rows))
    assert [batch.num_rows for batch in batches] == sizes
    assert pa.Table.from_batches(batches)["pmid"].to_pylist() == [1, 2, 3, 4, 5]


def test_damage_is_reported_once_and_both_passes_end_there(tmp_path: Path) -> None:
    shard = shard_of(tmp_path / "a.xml", xml("a", "b", "c").partition(b">c<")[0])
    keys = scan(shard)
    assert keys["pmid"] == read(shard)["pmid"].to_pylist() == [1, 2]
    assert keys["damage"]["place"] == "after record 2 (PMID 2)"  # type: ignore[index]
    assert keys["damage"]["reason"].startswith("broken XML")  # type: ignore[index]
    assert keys["rejected"] == []


def test_a_broken_record_is_rejected_and_both_passes_go_on(tmp_path: Path) -> None:
    shard = shard_of(tmp_path / "a.xml", xml("a", "b", "c").replace(b">b<", b">b&<"))
    keys = scan(shard)
    assert keys["pmid"] == read(shard)["pmid"].to_pylist() == [1, 3]
    assert (keys["damage"], keys["broken"]) == (None, [2])


def test_a_file_that_cannot_be_read_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    shard = shard_of(tmp_path / "a.xml", xml("a"))
    (tmp_path / "a.xml").unlink()
    with pytest.raises(FileNotFoundError):
        scan(shard)
    with pytest.raises(FileNotFoundError):
        read(shard)


def test_a_file_that_changed_since_it_was_planned(tmp_path: Path) -> None:
    shard = shard_of(tmp_path / "a.xml", xml("a", "b", "c"))
    with pytest.raises(OSError, match=r"changed since it was planned: had 2 citations, has 3"):
        list(read_citations(shard, np.array([True, True])))


def test_a_file_of_as_many_citations_that_changed_since_it_was_planned(tmp_path: Path) -> None:
    shard = shard_of(tmp_path / "a.xml", xml("a", "b"))
    scanned = replace(shard, md5=str(scan(shard)["md5"]))
    assert read(scanned)["pmid"].to_pylist() == [1, 2]
    shard_of(tmp_path / "a.xml", xml("a", "c"))
    with pytest.raises(OSError, match="changed since it was planned: had MD5"):
        read(scanned)


@pytest.mark.parametrize("name", ["a.xml", "a.xml.gz"])
def test_gzip_is_known_by_content_not_by_name(name: str, tmp_path: Path) -> None:
    plain = shard_of(tmp_path / name, xml("a", "b"))
    assert scan(plain)["pmid"] == [1, 2]
    packed = shard_of(tmp_path / name, gzip.compress(xml("a", "b", "c")))
    assert scan(packed)["pmid"] == [1, 2, 3]


def test_file_without_records(tmp_path: Path) -> None:
    shard = shard_of(tmp_path / "a.xml", xml())
    assert scan(shard) == {
        "shard": 3, "pmid": [], "version": [], "text_digest": [], "metadata_digest": [],
        "empty": [], "deleted": [], "rejected": [], "broken": [], "damage": None,
        "md5": hashlib.md5((tmp_path / "a.xml").read_bytes()).hexdigest(),
    }  # fmt: skip
    assert list(read_citations(shard)) == []
