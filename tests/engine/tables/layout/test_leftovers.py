"""What a crash has left is deleted; what may yet be committed, or once was, is not."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tables import fill, put, rows, texts

from engine.planning.settled import settled_pmids
from engine.tables.committer import Committer
from engine.tables.layout import writer
from engine.tables.layout.files import NO_PMIDS
from engine.tables.layout.rewrite import Rewrite
from engine.tables.layout.writer import write_rows
from engine.tables.maintenance import remove_leftovers
from engine.tables.store import Store

ROOT = Path(__file__).parents[4]

CRASHES = """
import os, sys
from engine.tables.layout.files import filesystem
from engine.tables.layout.writer import write_rows
from engine.tables.maintenance import remove_leftovers
from engine.tables.store import Store
from tables import rows
table = Store(sys.argv[1]).load()
write_rows(table, rows([7, 8]))
stream = filesystem(table).open_output_stream(sys.argv[2])
stream.write(b"PAR1")
os._exit(1)
"""


def files(store: Store, table: str = "annotations") -> set[str]:
    return {p.name for p in Path(store.root, table).glob("*.parquet")}


def crash(store: Store, half: str) -> None:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests/support")])
    done = subprocess.run(
        [sys.executable, "-c", CRASHES, store.root, half], env=os.environ | {"PYTHONPATH": path}
    )
    assert done.returncode == 1


def test_what_a_process_that_is_gone_has_not_committed_is_deleted(store: Store) -> None:
    fill(store, [1, 2])
    before = files(store)
    crash(store, "elsewhere.parquet")  # not named by us: not ours to delete
    assert len(files(store)) == len(before) + 2
    assert remove_leftovers(store) == 1
    assert files(store) == before | {"elsewhere.parquet"} and sorted(texts(store)) == [1, 2]


def test_what_a_running_process_is_about_to_commit_stays(store: Store) -> None:
    added = write_rows(store.load(), rows([1]))
    for file in Path(store.root, "annotations").glob("*.parquet"):
        os.utime(file, (time.time() - 2 * 86400,) * 2)
    assert remove_leftovers(store) == 0
    put(store, Rewrite(added, [], NO_PMIDS))
    assert sorted(texts(store)) == [1]


@pytest.mark.parametrize(("days", "goes"), [(0.5, False), (1.5, True), (6.5, False)])
def test_files_of_other_machines_go_by_their_age(store: Store, days: float, goes: bool) -> None:
    folder = Path(store.root, "annotations")
    fill(store, [1, 2])
    for mark in ("part-0123abcd.1.1-x.zstd.parquet", "part-x.zstd.parquet"):
        shutil.copy(next(folder.glob("part-*")), folder / mark)
        os.utime(folder / mark, (time.time() - days * 86400,) * 2)
        assert remove_leftovers(store) == goes
        (folder / mark).unlink(missing_ok=True)


def test_what_was_part_of_the_table_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "new_name", lambda: f"part-x{os.urandom(4).hex()}.parquet")
    fill(store, [1, 2])
    Committer(store.load(), np.array([1]), settled_pmids).commit(rows([1], text="y"))
    for file in Path(store.root, "annotations").glob("*.parquet"):
        os.utime(file, (time.time() - 2 * 86400,) * 2)
    assert len(files(store)) == 2 and remove_leftovers(store) == 0
    store.load().create_checkpoint()
    assert remove_leftovers(store) == 0 and len(files(store)) == 2
