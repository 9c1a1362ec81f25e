"""The table of a lock: a version of it is made once, whoever tries."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake

from engine.tables.lease import Entry, Lease
from schemas.errors import UsageError

ENTRY = Entry("token", "r1", "host", 7, "2026", None, 60.0)


def test_an_entry_comes_back_as_it_was_put(tmp_path: Path) -> None:
    lease = Lease(str(tmp_path / "lock"))
    assert (lease.version, lease.entry) == (0, None)
    assert lease.put(ENTRY) and lease.put(replace(ENTRY, beat=1))
    seen = Lease(str(tmp_path / "lock"))
    assert (seen.version, seen.entry) == (2, replace(ENTRY, beat=1))
    assert "run r1, since 2026, process 7 on host" in ENTRY.describe()


def test_who_has_not_seen_the_newest_version_makes_none(tmp_path: Path) -> None:
    first, second = Lease(str(tmp_path / "lock")), Lease(str(tmp_path / "lock"))
    other = replace(ENTRY, owner="other")
    assert first.put(ENTRY) and not second.put(other)
    assert second.entry == ENTRY and second.version == first.version == 1
    assert second.put(other) and first.renew(ENTRY) is None
    assert first.entry == other
    assert second.renew(other) == replace(other, beat=1)
    first.reload()
    assert first.entry == replace(other, beat=1)


def test_a_version_of_another_program_hides_nothing(tmp_path: Path) -> None:
    lease = Lease(str(tmp_path / "lock"))
    lease.put(ENTRY)
    DeltaTable(str(tmp_path / "lock")).alter.set_table_description("seen by another program")
    assert Lease(str(tmp_path / "lock")).entry == ENTRY
    assert lease.renew(ENTRY) == replace(ENTRY, beat=1)


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({"colour": "red"}, ENTRY),  # of a later version
        ({"lease_s": 1e9}, replace(ENTRY, lease_s=3600.0)),
        ({"lease_s": "long"}, None),
        ({"owner": None}, replace(ENTRY, owner=None)),  # type: ignore[arg-type]
    ],
)
def test_an_entry_that_is_odd(tmp_path: Path, change: dict[str, object], seen: Entry) -> None:
    lease = Lease(str(tmp_path / "lock"))
    table = DeltaTable(tmp_path / "lock")
    text = json.dumps(asdict(ENTRY) | change)
    table.create_write_transaction(
        [], mode="append", schema=table.schema(),
        commit_properties=CommitProperties(custom_metadata={"pubmark.lock": text}),
    )  # fmt: skip
    lease.reload()
    assert lease.entry == seen
    assert lease.put(ENTRY) and Lease(str(tmp_path / "lock")).entry == ENTRY


def test_many_versions_cost_no_more_than_a_few(tmp_path: Path) -> None:
    lease = Lease(str(tmp_path / "lock"))
    for beat in range(40):
        assert lease.put(replace(ENTRY, beat=beat))
    log = tmp_path / "lock/_delta_log"
    newest = max(int(p.name.split(".")[0]) for p in log.glob("*.checkpoint.parquet"))
    assert lease.version - newest <= 4
    assert Lease(str(tmp_path / "lock")).entry == replace(ENTRY, beat=39)


def test_a_table_of_another_program_is_not_touched(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "lock", pa.table({"x": [1]}))
    with pytest.raises(UsageError, match="another program"):
        Lease(str(tmp_path / "lock"))
    assert DeltaTable(tmp_path / "lock").version() == 0


def test_of_processes_that_start_at_once_one_comes_first(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from engine.tables.lease import Entry, Lease\n"
        "print('up', flush=True); sys.stdin.readline()\n"
        "lease = Lease(sys.argv[1])\n"  # they make the table, too
        "print(lease.entry is None and lease.put(Entry(sys.argv[2], 'r', 'h', 1, '', None, 60.0)))"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, tmp_path / "lock", str(i)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for i in range(4)
    ]  # fmt: skip
    for process in started:
        assert process.stdout and process.stdout.readline() == "up\n"
    for process in started:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=240)[0].strip() for process in started]
    assert sorted(answers) == ["False", "False", "False", "True"]
    entry = Lease(str(tmp_path / "lock")).entry
    assert entry and entry.owner == str(answers.index("True"))
