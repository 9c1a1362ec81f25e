"""The views as they were at a time."""

import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tables import fill

from engine.tables.store import Store
from engine.views.sql import open_views
from schemas.errors import UsageError


def count(root: Path, as_of: str) -> int:
    row = open_views(str(root), as_of).execute("SELECT count(*) FROM annotations").fetchone()
    assert row is not None
    return int(row[0])


def test_a_time_means_the_same_in_a_copy(store: Store, tmp_path: Path) -> None:
    fill(store, [1, 2])
    time.sleep(0.01)
    between = datetime.now(UTC).isoformat()
    time.sleep(0.01)
    fill(store, [3])
    copy = tmp_path / "copy"
    shutil.copytree(store.root, copy, copy_function=shutil.copy)  # with new times, as cp -r
    for root in (Path(store.root), copy):
        assert count(root, between) == 2
        assert count(root, datetime.now(UTC).isoformat()) == 3
        with pytest.raises(UsageError, match="did not exist, or its log was cut"):
            count(root, "2020-01-01")
