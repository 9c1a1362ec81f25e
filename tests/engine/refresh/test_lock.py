"""One turn at a time, and what a dead one leaves."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from deltalake import DeltaTable
from s3_server import BUCKET, s3_server

from engine.refresh.lock import Held, turn
from engine.refresh.process import this_process
from engine.runs.run_id import new_run_id
from engine.tables import store as store_module
from engine.tables.layout.files import NO_PMIDS
from engine.tables.layout.rewrite import Rewrite
from engine.tables.lease import Entry, Lease
from engine.tables.store import Store
from engine.tables.transactions import Transactions
from schemas.errors import JobError, UsageError

SHORT_S = 1.5
"""A lease for tests, renewed every twentieth of a second."""

ELSEWHERE = Entry("theirs", "theirs", "elsewhere", 1, "2026", "another world 1 1", SHORT_S)
"""A holder of which nothing is known but its renewals."""

HOLD = """
import sys, time
from engine.refresh.lock import Held, turn
from engine.tables.store import Store
root, name, lease = sys.argv[1], sys.argv[2], float(sys.argv[3])
print("up", flush=True)
sys.stdin.readline()
try:
    with turn(root, name, lease):
        print("in", flush=True)
        sys.stdin.readline()
        Store(root).append("failures", [{"pmid": 1, "run_id": name}])
        print("wrote", flush=True)
except Held as e:
    print("held", e, flush=True)
except Exception as e:
    print(type(e).__name__, e, flush=True)
"""


class Holder:
    """A process that takes the lock when told to, and writes to a table when told again."""

    def __init__(self, root: str, name: str, lease_s: float = SHORT_S):
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, root, name, str(lease_s)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self.says() == "up"

    def go_on(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def says(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()


@contextmanager
def holders(root: object, *names: str) -> Iterator[list[Holder]]:
    started = [Holder(str(root), n) for n in names]
    try:
        yield started
    finally:
        for holder in started:
            holder.process.kill()
            holder.process.communicate()


def left_by(root: Path, entry: Entry) -> Lease:
    lease = Lease(f"{root}/lock")
    assert lease.put(entry)
    return lease


def test_a_turn_has_the_tables_to_itself(tmp_path: Path) -> None:
    root = str(tmp_path / "t")
    with (
        turn(root, "mine", SHORT_S),
        pytest.raises(Held, match=rf"run mine, since 2.*process {os.getpid()} on"),
        turn(root, "other", SHORT_S),
    ):
        pass
    began = time.monotonic()
    with turn(root, "next"):
        pass
    assert time.monotonic() - began < 10  # nobody is waited for
    assert new_run_id() != new_run_id()


def test_a_turn_that_failed_holds_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), turn(str(tmp_path), "failed"):
        _ = 1 / 0
    with turn(str(tmp_path), "next"):
        pass


@pytest.mark.chaos
def test_a_killed_turn_holds_nothing(tmp_path: Path) -> None:
    with holders(tmp_path, "killed") as (holder,):
        holder.go_on()
        assert holder.says() == "in"
        with pytest.raises(Held, match="run killed"), turn(str(tmp_path), "x"):
            pass
        holder.process.kill()
        holder.process.wait()
        began = time.monotonic()
        with turn(str(tmp_path), "x"):
            pass
        assert time.monotonic() - began < SHORT_S


def test_a_number_that_another_process_has_now_holds_nothing(tmp_path: Path) -> None:
    token = this_process()
    assert token
    other = subprocess.Popen(["sleep", "60"])
    try:
        world, _, started = token.rsplit(" ", 2)
        # Of this very process, too: a container's processes get the same numbers again.
        for pid in (other.pid, os.getpid()):
            before = f"{world} {pid} {int(started) - 100}"
            left_by(tmp_path, replace(ELSEWHERE, pid=pid, process=before, lease_s=3600.0))
            with turn(str(tmp_path), "next"):
                pass
    finally:
        other.kill()
        other.wait()


def test_a_lock_that_is_not_renewed_is_taken_once_its_lease_is_over(tmp_path: Path) -> None:
    left_by(tmp_path, ELSEWHERE)
    began = time.monotonic()
    with turn(str(tmp_path), "next"):
        assert SHORT_S <= time.monotonic() - began < 20 * SHORT_S


def test_a_lock_that_is_renewed_is_not_taken_whatever_its_times_say(tmp_path: Path) -> None:
    lease = left_by(tmp_path, replace(ELSEWHERE, since="1970-01-01T00:00:00Z"))
    ended = threading.Event()

    def renew() -> None:
        entry: Entry | None = lease.entry
        while entry and not ended.wait(SHORT_S / 3):
            entry = lease.renew(entry)

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        for _ in range(2):
            with pytest.raises(Held, match="run theirs"), turn(str(tmp_path), "x", SHORT_S):
                pass
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("before", [None, ELSEWHERE])
def test_of_turns_that_start_at_once_one_has_the_lock(tmp_path: Path, before: Entry | None) -> None:
    """Also where they take over from one that died."""
    if before:
        left_by(tmp_path, before)
    with holders(tmp_path, "a", "b", "c") as started:
        for holder in started:
            holder.go_on()
        said = [holder.says() for holder in started]
        winner = said.index("in")
        assert sum(s.startswith("held run " + "abc"[winner]) for s in said) == 2, said
        started[winner].go_on()
        assert started[winner].says() == "wrote"


@pytest.mark.chaos
def test_a_turn_that_was_stopped_and_lost_the_lock_writes_nothing_more(tmp_path: Path) -> None:
    root = str(tmp_path)
    with holders(root, "stopped") as (holder,):
        holder.go_on()
        assert holder.says() == "in"
        holder.process.send_signal(signal.SIGSTOP)
        with turn(root, "next", SHORT_S):
            holder.process.send_signal(signal.SIGCONT)
            holder.go_on()
            assert holder.says().startswith("JobError the lock was lost to run next, since 2")
        assert not Store(root).has("failures")
        with turn(root, "last"):  # nor has it freed what was not its own
            pass


def test_every_write_asks_whether_the_lock_is_held(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with turn(store.root, "mine", SHORT_S):
        table = store.create()
        lease = Lease(store.uri("lock"))
        for _ in range(100):  # the holder renews it all the while
            assert lease.entry is not None
            if lease.put(replace(lease.entry, owner="theirs", run_id="theirs")):
                break
        else:
            pytest.fail("another renewed the lock each time")
        time.sleep(SHORT_S / 10)
        versions = {n: store.load(n).version() for n in store_module.TABLES}
        nothing = Rewrite([], [], NO_PMIDS)
        for write in (
            store.create,
            lambda: store.append("runs", [{"run_id": "mine"}]),
            lambda: Transactions(table, "mine").take_over(nothing, NO_PMIDS),
        ):
            with pytest.raises(JobError, match="lost to run theirs"):
                write()
        assert {n: store.load(n).version() for n in store_module.TABLES} == versions
    store.append("runs", [{"run_id": "free"}])  # outside of a turn nothing is asked


def test_a_store_that_fails_for_a_moment_costs_no_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(str(tmp_path))

    def fail(*_: object) -> None:
        raise OSError("the store is away")

    with turn(store.root, "mine", SHORT_S):
        with monkeypatch.context() as patched:
            patched.setattr(Lease, "renew", fail)
            time.sleep(SHORT_S / 4)
            store.append("failures", [{"pmid": 1, "run_id": "mine"}])
            assert "could not be renewed: the store is away" in caplog.text
            time.sleep(SHORT_S)
            with pytest.raises(JobError, match="not renewed for 2 s: the store is away"):
                store.append("failures", [{"pmid": 2, "run_id": "mine"}])
        store.append("failures", [{"pmid": 3, "run_id": "mine"}])
    assert sorted(r["pmid"] for r in store.read("failures")) == [1, 3]


def test_a_root_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for root in (str(tmp_path / "file" / "t"), "gopher://host/t"):
        with pytest.raises(UsageError, match="cannot be written"), turn(root, "x"):
            pass


@pytest.mark.slow
def test_in_an_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = f"s3://{BUCKET}/t"
    with s3_server(tmp_path) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        for number in range(6):
            before = server.requests
            with turn(root, f"r{number}"):
                pass
            assert server.requests - before <= 70
        left = Lease(f"{root}/lock")
        assert left.put(ELSEWHERE)
        with holders(root, "a", "b") as started:
            for holder in started:
                holder.go_on()
            said = sorted(holder.says() for holder in started)
            assert said[0].startswith("held run ") and said[1] == "in"
        assert DeltaTable(f"{root}/lock").version() >= 12
