"""Requests to an object store: a turn of refresh with nothing to do, by files that are known.

    python bench/requests_made.py --known 5 105 1700

A local S3 server (moto) counts them. For each number of known files a table is made that has taken
in that many, over as many commits as there are files (the last 1,700 at most); then a turn with
nothing to do is taken twice, and `history` and `sql --as-of` once. Prints requests and seconds of
each, and the ratio to the limit of 100 requests a turn.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/support")]

import pyarrow as pa  # noqa: E402
from deltalake import CommitProperties, Transaction  # noqa: E402
from s3_server import BUCKET, Server, s3_server  # noqa: E402

from engine.sources.shards import digest_shard, find_shards  # noqa: E402
from engine.steps.annotator import annotator_of  # noqa: E402
from engine.tables.annotators import introduce  # noqa: E402
from engine.tables.layout.files import as_stored  # noqa: E402
from engine.tables.layout.rewrite import Rewrite  # noqa: E402
from engine.tables.layout.writer import write_rows  # noqa: E402
from engine.tables.store import Store  # noqa: E402
from engine.views.history import past_runs  # noqa: E402
from engine.views.sql import open_views  # noqa: E402
from jobs import refresh  # noqa: E402
from schemas.annotations import ANNOTATIONS_SCHEMA, FILES_SCHEMA  # noqa: E402
from schemas.configs.refresh import RefreshConfig  # noqa: E402

LIMIT = 100


def write_files(folder: Path, count: int) -> None:
    folder.mkdir()
    for i in range(1, count + 1):
        (folder / f"pubmed26n{i:04}.xml").write_text(
            f"<PubmedArticleSet><PubmedArticle><MedlineCitation><PMID>{i}</PMID><Article>"
            f"<ArticleTitle>Text {i}</ArticleTitle></Article></MedlineCitation></PubmedArticle>"
            "</PubmedArticleSet>"
        )


def fill(store: Store, folder: Path) -> None:
    """What annotate leaves of each file in turn, without the model: a row, and the ledger."""
    annotator = annotator_of("nano", None)
    store.create()
    introduce(store, annotator, "bench")
    shards = find_shards([str(folder)])
    known = [(s.name, digest_shard(s)) for s in shards]
    rows = {
        "pmid": range(1, len(known) + 1),
        "text": [f"Text {i}" for i in range(1, len(known) + 1)],
        "status": ["ok"] * len(known),
        "annotator": [annotator.fingerprint] * len(known),
        "source": [name for name, _ in known],
    }
    table = as_stored(pa.table({n: pa.array(v, ANNOTATIONS_SCHEMA.field(n).type)
                                for n, v in rows.items()}))  # fmt: skip
    store.append(
        "files",
        pa.Table.from_pylist(
            [
                {"name": n, "md5": m, "run_id": "bench", "citations": 1, "pmids": [i],
                 "deleted": []}
                for i, (n, m) in enumerate(known, 1)
            ],
            schema=FILES_SCHEMA,
        ),
    )  # fmt: skip
    current = store.load()
    for i, (name, md5) in enumerate(known, 1):
        done = Rewrite(write_rows(current, table) if i == 1 else [], [], table["pmid"].to_numpy())
        current.create_write_transaction(
            done.actions(True), mode="append", schema=current.schema(),
            commit_properties=CommitProperties(
                max_commit_retries=0,
                app_transactions=[
                    Transaction(f"pubmark.file {name} {md5}", i), Transaction("pubmark.files", i)
                ],
            ),
        )  # fmt: skip
        current.update_incremental()


def count(server: Server, work: Callable[[], object]) -> tuple[int, float]:
    before, began = server.requests, time.monotonic()
    work()
    return server.requests - before, time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--known", type=int, nargs="+", default=[5, 105])
    args = parser.parse_args()
    print(f"{'known files':>12} {'what':28} {'requests':>9} {'of the limit':>13} {'seconds':>8}")
    with tempfile.TemporaryDirectory() as place, s3_server(Path(place)) as server:
        os.environ |= server.environment
        for known in args.known:
            folder = Path(place) / f"in-{known}"
            write_files(folder, known)
            made = Path(place) / f"made-{known}"  # a commit to the server takes far longer
            fill(Store(str(made)), folder)
            for file in filter(Path.is_file, made.rglob("*")):
                key = f"{known}/{file.relative_to(made)}"
                server.client.put_object(Bucket=BUCKET, Key=key, Body=file.read_bytes())
            store = Store(f"s3://{BUCKET}/{known}")
            config = RefreshConfig(to=store.root, sources=[str(folder)])
            works: dict[str, Callable[[], object]] = {
                "refresh, files not yet hashed": lambda c=config: refresh.run(c),
                "refresh": lambda c=config: refresh.run(c),
                "history": lambda s=store: past_runs(s),
                "sql --as-of": lambda s=store: open_views(s.root, "2100-01-01"),
            }
            for what, work in works.items():
                requests, seconds = count(server, work)
                ratio = f"{requests / LIMIT:.2f}" if what == "refresh" else ""
                print(f"{known:12,} {what:28} {requests:9,} {ratio:>13} {seconds:8.1f}", flush=True)


if __name__ == "__main__":
    main()
