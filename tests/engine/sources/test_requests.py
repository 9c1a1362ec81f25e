"""How often an object store is asked for a source."""

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from s3_server import BUCKET, Server, s3_server

from engine.corpora.formats.read import first_line
from engine.sources.read import scan_shard
from engine.sources.shards import find_shards

ROWS = [{"pmid": i, "title": f"Title {i}", "abstract": "Aspirin. " * 20} for i in range(1, 200)]
XML = "".join(
    f"<PubmedArticle><MedlineCitation><PMID>{r['pmid']}</PMID><Article><ArticleTitle>{r['title']}"
    "</ArticleTitle></Article></MedlineCitation></PubmedArticle>"
    for r in ROWS
)
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
_SINK = pa.BufferOutputStream()
pq.write_table(pa.Table.from_pylist(ROWS), _SINK)
PARQUET = _SINK.getvalue().to_pybytes()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with s3_server(tmp_path_factory.mktemp("server")) as started, pytest.MonkeyPatch.context() as m:
        for name, value in started.environment.items():
            m.setitem(os.environ, name, value)
        yield started


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", JSONL),
        ("a.parquet", PARQUET),
        ("a.jsonl.gz", gzip.compress(JSONL, mtime=0)),
        ("a.xml", f"<PubmedArticleSet>{XML}</PubmedArticleSet>".encode()),
    ],
    ids=["jsonl", "parquet", "jsonl.gz", "xml"],
)
def test_a_source_is_read_in_blocks(server: Server, name: str, content: bytes) -> None:
    server.client.put_object(Bucket=BUCKET, Key=name, Body=content)
    (shard,) = find_shards([f"s3://{BUCKET}/{name}"])
    before = server.requests
    scan = scan_shard(shard, 0)
    assert len(scan["pmid"][0]) == len(ROWS)
    assert server.requests - before < 7


def test_the_first_line_of_a_corpus(server: Server, tmp_path: Path) -> None:
    server.client.put_object(Bucket=BUCKET, Key="corpus.txt", Body=b"1|t|" + b"A" * 5000 + b"\n")
    before = server.requests
    assert first_line(f"s3://{BUCKET}/corpus.txt").startswith("1|t|A")
    assert server.requests - before < 12
