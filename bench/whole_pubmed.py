"""What grows with the table: planning a year's baseline, a turn with nothing to do, looking back.

    python bench/whole_pubmed.py --rows 40000000 --versions 100000 --folder F

Makes a table (kept in --folder for the next time) as large as all of PubMed, but narrow: rows have
their keys and no text. It has taken in a baseline of 30,000 citations a file and 365 updates, and
its log has so many versions. Then, in a process each:

- plan: the next year's baseline, of which one citation in forty has another text, against the table
  and the updates, which all are later than some of it (the worst case);
- refresh: a turn with nothing to do;
- history: all runs and versions; as-of: SQL over the version of a moment.

Prints seconds and peak memory (of these, above that of an idle process), and JSON on the last line.
Limits: plan under 4 GB, refresh under 10 s.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from update import ANNOTATOR, ROWS_AT_ONCE, digests, metadata, peak_mb

PER_FILE, UPDATES, PER_UPDATE = 30_000, 365, 30_000
MD5 = hashlib.md5(b"").hexdigest()  # the updates are empty files
STEPS = ("plan", "refresh", "history", "as-of")
LIMITS = {"plan": ("peak_mb", 4000.0), "refresh": ("seconds", 10.0)}


def make_table(root: Path, rows: int, versions: int) -> None:
    from deltalake import CommitProperties, Transaction

    from engine.tables.layout.files import NO_PMIDS, as_stored
    from engine.tables.layout.rewrite import Rewrite
    from engine.tables.layout.writer import write_rows
    from engine.tables.ledger import FILES_ID
    from engine.tables.store import Store
    from schemas.annotations import FILES_SCHEMA

    store = Store(str(root))
    table = store.create()
    added = []
    for start in range(0, rows, ROWS_AT_ONCE):
        pmids = np.arange(start, min(rows, start + ROWS_AT_ONCE)) + 1
        fixed = {"status": "ok", "annotator": ANNOTATOR, "source": source_of(start)}
        keys = {name: pa.repeat(value, len(pmids)) for name, value in fixed.items()}
        keys |= {"pmid": pa.array(pmids), "text_digest": digests(pmids, 0).cast(pa.binary()),
                 "metadata_digest": metadata(pmids)}  # fmt: skip
        added += write_rows(table, as_stored(pa.table(keys)))
    rng = np.random.default_rng(1)
    first = -(-rows // PER_FILE)
    names = [f"pubmed26n{first + i:04}.xml.gz" for i in range(1, UPDATES + 1)]
    for part in np.array_split(np.arange(UPDATES), 20):
        said = [
            {"name": names[i], "md5": MD5, "run_id": "bench", "citations": PER_UPDATE,
             "pmids": np.sort(rng.choice(rows, PER_UPDATE, replace=False)) + 1, "deleted": []}
            for i in part
        ]  # fmt: skip
        store.append("files", pa.Table.from_pylist(said, schema=FILES_SCHEMA))
    table.create_write_transaction(
        Rewrite(added, [], NO_PMIDS).actions(True), mode="append", schema=table.schema(),
        commit_properties=CommitProperties(
            app_transactions=[
                *(Transaction(f"pubmark.file {n} {MD5}", i) for i, n in enumerate(names, 1)),
                Transaction(FILES_ID, UPDATES),
            ]
        ),
    )  # fmt: skip
    log = root / "annotations/_delta_log"
    began = int(time.time() * 1000) - versions
    newest = store.load().version()
    for version in range(newest + 1, versions + 1):  # as others' commits would leave it
        info = {"timestamp": began + version, "operation": "WRITE", "pubmark.run_id": "bench"}
        lines = [{"commitInfo": info}, {"txn": {"appId": "pubmark", "version": version}}]
        (log / f"{version:020}.json").write_text("\n".join(map(json.dumps, lines)))
    store.load().create_checkpoint()


def source_of(row: int) -> str:
    return f"pubmed25n{row // PER_FILE + 1:04}.xml.gz"


def baseline_keys(rows: int) -> tuple[pa.Table, list[str]]:
    """The next year's baseline as scanned, and the names of its files."""
    from engine.sources.read import SCAN_SCHEMA

    tables = []
    for shard, start in enumerate(range(0, rows, PER_FILE)):
        pmids = np.arange(start, min(rows, start + PER_FILE)) + 1
        count = len(pmids)
        texts = digests(np.where(pmids % 40 == 0, pmids + 1, pmids), 0)
        lists = [pmids, np.ones(count, np.int16), texts, metadata(pmids), np.zeros(count, bool)]
        offsets = pa.array([0, count], pa.int32())
        arrays = [pa.array([shard], pa.int32())]
        for values, field in zip(lists, list(SCAN_SCHEMA)[1:6], strict=True):
            inner = pa.array(values).cast(field.type.value_type)
            arrays.append(pa.ListArray.from_arrays(offsets, inner))
        rest = ([], [], [], None, "1" * 32)
        arrays += [pa.array([v], f.type) for v, f in zip(rest, list(SCAN_SCHEMA)[6:], strict=True)]
        tables.append(pa.Table.from_arrays(arrays, schema=SCAN_SCHEMA))
    return pa.concat_tables(tables), [f"pubmed26n{i + 1:04}.xml.gz" for i in range(len(tables))]


def plan(root: Path, rows: int) -> None:
    from engine.planning.plan import make_plan
    from engine.tables.ledger import Ledger
    from engine.tables.reading import read_keys
    from engine.tables.store import Store

    scans, names = baseline_keys(rows)
    store = Store(str(root))
    table = store.load()
    later = Ledger(store, table).later([(n, "1" * 32) for n in names])
    made = make_plan(scans, partial(read_keys, table), ANNOTATOR, names=names, later=later)
    assert made.read == rows and made.states["superseded"]


def refresh(root: Path, rows: int) -> None:
    from jobs.refresh import run
    from schemas.configs.refresh import RefreshConfig

    with tempfile.TemporaryDirectory() as folder:
        name = f"pubmed26n{-(-rows // PER_FILE) + 1:04}.xml.gz"
        (Path(folder) / name).touch()
        config = RefreshConfig(to=str(root), sources=[folder], gate=None, slice_rows=0)
        assert run(config).outcome == "nothing to do"


def history(root: Path, rows: int) -> None:
    from engine.tables.store import Store
    from engine.views.history import past_runs

    past_runs(Store(str(root)))


def as_of(root: Path, rows: int) -> None:
    from engine.views.sql import open_views

    with open_views(str(root), datetime.now(UTC).isoformat()) as db:
        (count,) = db.execute("SELECT count(*) FROM annotations").fetchone() or (0,)
    assert count == rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=40_000_000)
    parser.add_argument("--versions", type=int, default=100_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--step", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step == "table":
        return make_table(options.folder, options.rows, options.versions)
    if options.step:
        work = {"plan": plan, "refresh": refresh, "history": history, "as-of": as_of}[options.step]
        idle, began = peak_mb(), time.monotonic()
        work(options.folder, options.rows)
        figures = {"seconds": time.monotonic() - began, "peak_mb": peak_mb() - idle}
        return print(json.dumps(figures))
    with tempfile.TemporaryDirectory() as temporary:
        root = (options.folder or Path(temporary)) / f"{options.rows}-{options.versions}"
        told = ["--folder", str(root), "--rows", str(options.rows)]
        command = [sys.executable, __file__, *told, "--versions", str(options.versions), "--step"]
        if not (root / "annotations/_delta_log").is_dir():
            subprocess.run([*command, "table"], check=True)
        figures = {}
        for step in STEPS:
            done = subprocess.run([*command, step], check=True, stdout=subprocess.PIPE, text=True)
            figures[step] = json.loads(done.stdout.splitlines()[-1])
            what, limit = LIMITS.get(step, ("seconds", np.nan))
            values = ", ".join(f"{k} {v:,.1f}" for k, v in figures[step].items())
            print(f"{step}: {values}; of the limit {figures[step][what] / limit:.2f}", flush=True)
    print(json.dumps({"rows": options.rows, "versions": options.versions} | figures))
    return None


if __name__ == "__main__":
    main()
