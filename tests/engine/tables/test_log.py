"""All application transactions of a table at once, at any version, from checkpoints and commits."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction

from engine.tables.log import app_transactions
from schemas.errors import JobError

IDS = ("pubmark.file a name.xml 0", "pubmark.files", "txn", "other program's")


def table(path: Path, commits: int, interval: int) -> DeltaTable:
    """A table in whose commit ``i`` (from 1) two of IDS were set to ``i``."""
    made = DeltaTable.create(
        path, pa.schema([("a", pa.int64())]),
        configuration={"delta.checkpointInterval": str(interval)},
    )  # fmt: skip
    for i in range(1, commits + 1):
        made.create_write_transaction(
            [], mode="append", schema=made.schema(),
            commit_properties=CommitProperties(
                app_transactions=[Transaction(IDS[i % 4], i), Transaction(IDS[i % 3], i)],
                max_commit_retries=0,
            ),
        )  # fmt: skip
        made = DeltaTable(path)
    return made


def known_to_deltars(version: DeltaTable) -> dict[str, int]:
    pairs = {i: version.transaction_version(i) for i in IDS}
    return {i: number for i, number in pairs.items() if number is not None}


@pytest.mark.parametrize("interval", [3, 100])
def test_what_deltars_knows_of_each_version(tmp_path: Path, interval: int) -> None:
    newest = table(tmp_path, 13, interval)
    for version in range(newest.version() + 1):
        then = DeltaTable(tmp_path, version=version)
        assert app_transactions(then) == known_to_deltars(then)


def test_without_the_hint_the_newest_checkpoint_is_found(tmp_path: Path) -> None:
    newest = table(tmp_path, 8, 3)
    (tmp_path / "_delta_log/_last_checkpoint").unlink()
    for old in range(6):  # as a clean-up leaves it
        (tmp_path / f"_delta_log/{old:020}.json").unlink()
    assert app_transactions(newest) == known_to_deltars(newest)


def test_a_checkpoint_in_parts(tmp_path: Path) -> None:
    newest = table(tmp_path, 8, 6)
    log = tmp_path / "_delta_log"
    (whole,) = log.glob("*.checkpoint.parquet")
    rows = pq.read_table(whole)
    for part, piece in enumerate((rows.slice(0, 3), rows.slice(3)), 1):
        pq.write_table(
            piece, log / f"{whole.name.split('.')[0]}.checkpoint.{part:010}.{2:010}.parquet"
        )
    whole.unlink()
    hint = (log / "_last_checkpoint").read_text()
    (log / "_last_checkpoint").write_text(hint.replace("{", '{"parts":2,', 1))
    assert app_transactions(newest) == known_to_deltars(DeltaTable(tmp_path))


def test_a_commit_that_is_missing_is_named(tmp_path: Path) -> None:
    newest = table(tmp_path, 4, 100)
    (tmp_path / f"_delta_log/{2:020}.json").unlink()
    with pytest.raises(JobError, match=r"its log cannot be read.*00002\.json"):
        app_transactions(newest)
