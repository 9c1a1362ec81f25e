"""A day's update, and its plan alone, on a synthetic table: everything but the model.

    .venv/bin/python bench/update.py --rows 1000000

Makes a table (in --folder, kept for the next time, or in a temporary one) whose rows are as wide as
real ones, and a file of 30,000 records: 4,000 new, 4,000 with another text, scattered over all
PMIDs, the others without a change that is stored. Its keys are given, as reading is measured
elsewhere (bench/reading.py), and the completions too. Then, in a process each: the plan (which
records need the model?), and the whole update: plan, commits, the pass over the table. Prints
seconds, bytes and peak memory, and JSON on the last line.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

STEP = 4  # between PMIDs
NEW, CHANGED, ALL = 4_000, 4_000, 30_000
COMMIT_ROWS = 1_000  # 8,000 rows in eight commits: some minutes of one engine
ROWS_AT_ONCE = 65_536
SAMPLE = 4_096
ANNOTATOR = "0123456789abcdef"


def sample_rows(seed: int) -> pa.Table:
    """Rows like real ones: 2,440 bytes in memory, 1,480 characters, 9 sentences, 11 mentions."""
    from schemas.annotations import ANNOTATIONS_SCHEMA

    rng = np.random.default_rng(seed)
    # Zipf's law over 50,000 made-up words, so that the text packs as English does.
    letters = np.array(list("eeeeettaaoinshrdlucmfwypvbgk"))
    words = ["".join(rng.choice(letters, n)) for n in rng.integers(2, 12, 50_000)]
    rows = []
    for number in range(SAMPLE):
        chosen = (50_000 ** (rng.random(215) ** 0.5)).astype(int) - 1
        text = " ".join(words[i] for i in chosen)
        starts = np.sort(rng.choice(max(1, len(text) - 20), 11, replace=False))
        rows.append(
            {
                "version": 1, "text": text, "title_length": 90,
                "sentences": [{"start": i * len(text) // 9, "end": (i + 1) * len(text) // 9 - 1}
                              for i in range(9)],
                "mentions": [
                    {"start": int(s), "end": int(s) + 9, "text": text[s : s + 9],
                     "entity_type": ("disease", "chemical", "gene")[s % 3],
                     "score": float(rng.random()), "grade": "exact",
                     "sentence": int(s * 9 // len(text)), "identifier": None}
                    for s in starts
                ],
                "status": "ok", "error": None, "annotator": ANNOTATOR, "run_id": "bench",
                "annotated_at": datetime.now(UTC), "source": "pubmed26n0001.xml.gz",
                "pub_year": 1960 + number % 60, "journal": f"Journal {number % 900} of Things",
                "language": "eng", "doi": f"10.{number}/{rng.integers(1 << 40)}",
                "publication_types": ["Journal Article"],
            }
        )  # fmt: skip
    for row in rows:
        row |= {"pmid": 0, "text_digest": b"\0" * 16, "metadata_digest": 0}
    return pa.Table.from_pylist(rows, schema=ANNOTATIONS_SCHEMA)


def digests(pmids: np.ndarray, salt: int) -> pa.Array:
    """A digest of 16 bytes for each PMID: incompressible, and the same for the same PMID."""
    halves = np.empty((len(pmids), 2), np.uint64)
    for half in range(2):
        x = pmids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(2 * salt + half + 1)
        x ^= x >> np.uint64(31)
        halves[:, half] = x * np.uint64(0xBF58476D1CE4E5B9)
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(pmids), [None, pa.py_buffer(halves.tobytes())]
    )


def metadata(pmids: np.ndarray) -> pa.Array:
    return pa.array((pmids.astype(np.uint64) * np.uint64(0x94D049BB133111EB)).view(np.int64))


def rows_of(pmids: np.ndarray, sample: pa.Table, salt: int) -> pa.Table:
    from engine.tables.layout.files import STORED_SCHEMA, as_stored

    rng = np.random.default_rng(int(pmids[0]))
    rows = as_stored(sample.take(rng.integers(0, len(sample), len(pmids))))
    columns = {
        "pmid": pa.array(pmids),
        "text_digest": digests(pmids, salt).cast(pa.binary()),
        "metadata_digest": metadata(pmids),
    }
    for name, values in columns.items():
        rows = rows.set_column(STORED_SCHEMA.names.index(name), STORED_SCHEMA.field(name), values)
    return rows


def make_table(root: Path, rows: int) -> None:
    from engine.tables.layout.files import NO_PMIDS
    from engine.tables.layout.rewrite import Rewrite
    from engine.tables.layout.writer import write_rows
    from engine.tables.store import Store

    store = Store(str(root))
    table = store.create()
    sample = sample_rows(0)
    added = []
    for start in range(0, rows, ROWS_AT_ONCE):
        pmids = np.arange(start, min(rows, start + ROWS_AT_ONCE)) * STEP + 1
        added += write_rows(table, rows_of(pmids, sample, 0))
    table.create_write_transaction(
        Rewrite(added, [], NO_PMIDS).actions(True), mode="append", schema=table.schema()
    )


def update_keys(rows: int) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    """The update as scanned; its new PMIDs, and those with another text."""
    from engine.sources.read import SCAN_SCHEMA

    rng = np.random.default_rng(7)
    known = np.sort(rng.choice(rows, ALL - NEW, replace=False)) * STEP + 1
    changed = np.sort(rng.choice(known, CHANGED, replace=False))
    # Of the new ones, one in ten is older than the newest in the table.
    new = np.sort(
        np.concatenate(
            [rng.choice(rows, NEW // 10, replace=False) * STEP + 2,
             np.arange(NEW - NEW // 10) * STEP + rows * STEP + 1]
        )
    )  # fmt: skip
    pmids = np.concatenate([known, new])
    salts = np.isin(pmids, changed)
    texts = pc.if_else(pa.array(salts), digests(pmids, 1), digests(pmids, 0))
    row = [0, pmids, np.ones(ALL, np.int16), texts, metadata(pmids), np.zeros(ALL, bool), [], [],
           [], None, "0" * 32]  # fmt: skip
    arrays = [
        pa.array([v.tolist() if isinstance(v, np.ndarray) else v], f.type)
        if not isinstance(v, pa.Array)
        else pa.ListArray.from_arrays(pa.array([0, ALL], pa.int32()), v.cast(f.type.value_type))
        for v, f in zip(row, SCAN_SCHEMA, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=SCAN_SCHEMA), new, changed


def measure(root: Path, rows: int, step: str) -> dict[str, float]:
    """Run ``step`` in this process; the fixed cost of starting Python and its packages is apart."""
    from engine.planning.plan import make_plan
    from engine.planning.settled import settled_pmids
    from engine.tables.committer import Committer
    from engine.tables.ledger import Ledger
    from engine.tables.reading import read_keys
    from engine.tables.store import Store

    scans, new, changed = update_keys(rows)
    sample = sample_rows(1) if step == "update" else None
    idle_mb = peak_mb()
    began, cpu = time.monotonic(), time.process_time()
    store = Store(str(root))
    table = store.load()
    ledger = Ledger(store, table)
    name = "pubmed26n1335.xml.gz"
    plan = make_plan(
        scans, partial(read_keys, table), ANNOTATOR, names=[name],
        later=ledger.later([(name, "0" * 32)]),
    )  # fmt: skip
    figures: dict[str, float] = {"plan_seconds": time.monotonic() - began}
    expected = {"new": NEW, "text_changed": CHANGED, "unchanged": ALL - NEW - CHANGED}
    assert {k: v for k, v in plan.states.items() if v} == expected, plan.states
    if sample is not None:
        committer = Committer(
            table, plan.present, partial(settled_pmids, retry=[]), store=store, run_id="bench"
        )
        order = np.random.default_rng(3).permutation(np.concatenate([new, changed]))
        for pmids in np.array_split(order, len(order) // COMMIT_ROWS):
            committer.commit(rows_of(np.sort(pmids), sample, 1))
        figures["commit_seconds"] = time.monotonic() - began - figures["plan_seconds"]
        done = committer.finish(transactions=ledger.take_in(scans, [name], "bench", False))
        figures["mb_rewritten"] = done.bytes_written / 1e6
        assert store.load().count() == rows + NEW
    figures["seconds"] = time.monotonic() - began
    figures["cpu_seconds"] = time.process_time() - cpu
    figures["peak_mb"] = peak_mb()
    figures["idle_mb"] = idle_mb
    return figures


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_apart(root: Path, rows: int, step: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--step", step, "--folder", str(root), "--rows", str(rows)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--step", choices=["table", "plan", "update"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step == "table":
        make_table(options.folder, options.rows)
        print(json.dumps({"peak_mb": peak_mb()}))
        return
    if options.step:
        print(json.dumps(measure(options.folder, options.rows, options.step)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        base = (options.folder or Path(temporary)) / f"{options.rows}"
        if not (base / "annotations/_delta_log").is_dir():
            run_apart(base, options.rows, "table")
        # Linked: files are never changed, and an update leaves the table as it was for the next.
        root = base.with_name(f"{options.rows}-updated")
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(base, root, copy_function=lambda a, b: Path(b).hardlink_to(a))
        size = sum(f.stat().st_size for f in root.rglob("*.parquet"))
        figures = {
            "rows": options.rows,
            "bytes_a_row": round(size / options.rows),
            "plan": run_apart(root, options.rows, "plan"),
            "update": run_apart(root, options.rows, "update"),
        }
        shutil.rmtree(root)
    for step in ("plan", "update"):
        values = ", ".join(f"{k} {v:,.1f}" for k, v in figures[step].items())
        print(f"{step}: {values}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
