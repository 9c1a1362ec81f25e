"""A mirror as a whole: what is fetched, what is not, and what lies in the target at any time."""

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from nlm_server import ALWAYS, Server, drop, lie, md5_of, serve, slow, status

from engine.mirror.client import Client
from engine.mirror.copying import Mirror, Mirrored
from engine.mirror.target import Target
from schemas.errors import JobError, UsageError

NAMES = [f"pubmed26n{n:04}.xml.gz" for n in range(1, 5)]
BODIES = {name: random.Random(name).randbytes(50_000) for name in NAMES}
FOLDER = "/pubmed/baseline/"
A, B, C, D = NAMES

Run = Callable[..., Mirrored]


@pytest.fixture
def published(server: Server) -> Server:
    for name, body in BODIES.items():
        server.publish("baseline", name, body)
    return server


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "to"


@pytest.fixture
def run(published: Server, to: Path) -> Run:
    def mirror(
        target: str | Path = to, kind: str = "baseline", connections: int = 2, **options: Any
    ) -> Mirrored:
        published.requests.clear()
        client = Client(connections=connections, retries=2, backoff_seconds=0.01)
        mirror = Mirror(kind, published.url, Target(str(target)), client, connections=connections)
        return mirror.run(**options)

    return mirror


def counts(result: Mirrored) -> tuple[int, int, int, int]:
    return result.listed, result.settled, len(result.fetched), len(result.failed)


def contents(folder: Path) -> dict[str, bytes]:
    """What a reader of the target sees."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.startswith(".")}


def whole(*names: str) -> dict[str, bytes]:
    sums = {f"{n}.md5": f"MD5({n})= {md5_of(BODIES[n])}\n".encode() for n in names}
    return {n: BODIES[n] for n in names} | sums


def hidden(folder: Path, ending: str = ".part") -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name.endswith(ending))


def paths(server: Server) -> list[str]:
    return sorted(r.path.removeprefix(FOLDER) for r in server.requests)


# All well


def test_everything_with_its_md5(run: Run, to: Path) -> None:
    result = run()
    assert counts(result) == (4, 0, 4, 0) and result.bytes == 200_000
    assert contents(to) == whole(*NAMES) and not hidden(to)


def test_again_asks_for_one_page(run: Run, published: Server) -> None:
    run()
    assert counts(run()) == (4, 4, 0, 0)
    assert paths(published) == [""]


def test_only_what_is_new_is_fetched_in_order_of_number(run: Run, published: Server) -> None:
    run(limit=2)
    result = run(connections=1)
    assert result.fetched == [C, D] and result.settled == 2
    assert paths(published) == ["", C, f"{C}.md5", D, f"{D}.md5"]


def test_no_more_connections_than_said(run: Run, published: Server) -> None:
    for name in NAMES:
        published.faults[FOLDER + name] = [slow(10_000, 0.02)]
    run(connections=2)
    assert published.open_most == 2


def test_updates_have_their_folder(run: Run, published: Server, to: Path) -> None:
    published.publish("updatefiles", "pubmed26n1335.xml.gz", b"update")
    assert run(kind="updates").fetched == ["pubmed26n1335.xml.gz"]
    run()
    assert set(contents(to)) > set(NAMES) | {"pubmed26n1335.xml.gz"}
    assert counts(run(kind="updates")) == (1, 1, 0, 0)


def test_updates_may_be_none_but_a_baseline_may_not(run: Run, published: Server) -> None:
    empty = [ALWAYS(serve(b"<html><h1>Index of it</h1></html>"))]
    published.faults = {FOLDER: empty, "/pubmed/updatefiles/": empty}
    assert counts(run(kind="updates")) == (0, 0, 0, 0)
    with pytest.raises(JobError, match="lists no file"):
        run()


# What has changed


@pytest.mark.parametrize("dates", [True, False])
def test_a_file_whose_md5_has_changed_is_fetched_anew(
    run: Run, published: Server, to: Path, dates: bool
) -> None:
    published.dates = dates
    run()
    published.publish("baseline", B, b"corrected")
    assert run().fetched == [B]
    assert contents(to)[B] == b"corrected"
    assert md5_of(b"corrected") in contents(to)[f"{B}.md5"].decode()
    assert counts(run()) == (4, 4, 0, 0)


def test_a_file_posted_again_as_it_was_is_not(run: Run, published: Server) -> None:
    run()
    published.publish("baseline", B, BODIES[B])
    assert counts(run()) == (4, 4, 0, 0)
    assert paths(published) == ["", f"{B}.md5"]
    run()
    assert paths(published) == [""]


def test_without_dates_in_the_index_md5s_are_asked_for(run: Run, published: Server) -> None:
    published.dates = False
    run()
    assert counts(run()) == (4, 4, 0, 0)
    assert paths(published) == ["", *(f"{n}.md5" for n in NAMES)]


def test_files_of_other_years_stay(run: Run, to: Path) -> None:
    to.mkdir()
    (to / "pubmed25n0001.xml.gz").write_bytes(b"old")
    run()
    assert contents(to) == whole(*NAMES) | {"pubmed25n0001.xml.gz": b"old"}


# What is there already, and how sure that is


def test_what_another_program_fetched_is_hashed_and_kept(
    run: Run, published: Server, to: Path
) -> None:
    to.mkdir()
    (to / A).write_bytes(BODIES[A])
    (to / B).write_bytes(BODIES[B][:1000])  # half, under its name
    (to / f"{B}.md5").write_bytes(whole(B)[f"{B}.md5"])
    result = run()
    assert counts(result) == (4, 1, 3, 0) and A not in result.fetched
    assert contents(to) == whole(*NAMES)


@pytest.mark.parametrize("spoil", [lambda p: p.unlink(), lambda p: p.write_bytes(b"{]")])
def test_a_lost_state_costs_hashing_only(
    run: Run, published: Server, to: Path, spoil: Callable[[Path], object]
) -> None:
    run()
    spoil(to / ".mirror-baseline.json")
    assert counts(run()) == (4, 4, 0, 0)
    assert paths(published) == ["", *(f"{n}.md5" for n in NAMES)]
    run()
    assert paths(published) == [""]


def test_a_file_cut_since_is_fetched_again(run: Run, to: Path) -> None:
    run()
    (to / C).write_bytes(BODIES[C][:-1])
    assert run().fetched == [C] and contents(to) == whole(*NAMES)


def test_a_file_or_md5_deleted_since_is_fetched_again(run: Run, to: Path) -> None:
    run()
    (to / C).unlink()
    (to / f"{D}.md5").unlink()
    assert run().fetched == [C] and contents(to) == whole(*NAMES)


def test_verify_hashes_and_mends(run: Run, published: Server, to: Path) -> None:
    run()
    (to / C).write_bytes(bytes(50_000))
    assert counts(run()) == (4, 4, 0, 0)  # by size it is the same
    result = run(verify=True, dry_run=True)
    assert (result.settled, result.to_fetch) == (3, 1) and contents(to)[C] == bytes(50_000)
    assert counts(run(verify=True)) == (4, 3, 1, 0)
    assert paths(published) == ["", C, f"{C}.md5"]
    assert contents(to) == whole(*NAMES)


# What goes wrong with one file


@pytest.mark.parametrize(
    ("path", "fault", "said"),
    [
        (f"{B}.md5", serve(b"MD5(x)= " + b"0" * 32), "does not have the published md5 0000"),
        (f"{B}.md5", serve(b"<html>hello</html>"), "expected one digest"),
        (f"{B}.md5", status(404), "its .md5: HTTP 404"),
        (B, status(404), "HTTP 404"),
        (B, status(500), "HTTP 500 .*3 attempts"),
        (B, serve(b"<html>log in</html>"), "does not have the published md5"),
        (B, lie(-7), "does not have the published md5"),
        (B, drop(10), "IncompleteRead"),
    ],
)
def test_one_bad_file_does_not_stop_the_others(
    run: Run, published: Server, to: Path, path: str, fault: Any, said: str
) -> None:
    published.faults[FOLDER + path] = [ALWAYS(fault)]
    result = run()
    assert counts(result) == (4, 0, 3, 1)
    assert contents(to) == whole(A, C, D)
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(result.failed[B])
    published.faults.clear()
    assert run().fetched == [B] and contents(to) == whole(*NAMES) and not hidden(to)


def test_a_wrong_md5_once(run: Run, published: Server, to: Path) -> None:
    published.faults[f"{FOLDER}{B}.md5"] = [serve(b"0" * 32)]
    published.faults[f"{FOLDER}{C}"] = [serve(BODIES[C][::-1])]
    assert counts(run()) == (4, 0, 4, 0)
    assert contents(to) == whole(*NAMES) and not hidden(to)


def test_a_changed_file_that_cannot_be_had_leaves_the_old_one(
    run: Run, published: Server, to: Path
) -> None:
    run()
    published.publish("baseline", B, b"corrected")
    published.faults[FOLDER + B] = [ALWAYS(drop(1))]
    assert counts(run()) == (4, 3, 0, 1) and contents(to) == whole(*NAMES)


def test_a_part_is_gone_on_with_by_the_next_run(run: Run, published: Server, to: Path) -> None:
    published.faults[FOLDER + B] = [drop(10_000), *[drop(0)] * 2]
    run()
    assert hidden(to) == [f".{B}.{md5_of(BODIES[B])}.part"]
    assert run().bytes == 40_000
    (request,) = published.asked(B)
    assert request.headers["Range"] == "bytes=10000-"
    assert contents(to) == whole(*NAMES) and not hidden(to)


def test_a_part_of_a_file_that_has_changed_is_thrown_away(
    run: Run, published: Server, to: Path
) -> None:
    published.faults[FOLDER + B] = [drop(10_000), *[drop(0)] * 2]
    run()
    published.publish("baseline", B, b"corrected")
    run()
    (request,) = published.asked(B)
    assert "Range" not in request.headers
    assert contents(to)[B] == b"corrected" and not hidden(to)


# What goes wrong with all


def test_a_server_that_is_gone_is_left_alone(run: Run, published: Server, to: Path) -> None:
    for n in range(5, 30):
        published.publish("baseline", f"pubmed26n{n:04}.xml.gz", b"x")
        published.faults[f"{FOLDER}pubmed26n{n:04}.xml.gz"] = [ALWAYS(status(500))]
    with pytest.raises(JobError, match=r"5 files in a row.*HTTP 500.*4 files were fetched"):
        run(connections=1)
    assert len(published.asked(".gz")) == 4 + 5 * 3
    assert contents(to) == whole(*NAMES)


def test_an_index_that_is_cut_is_fetched_again(run: Run, published: Server) -> None:
    page = published.index(FOLDER)
    published.faults[FOLDER] = [serve(page[: len(page) // 2]), drop(100)]
    assert counts(run()) == (4, 0, 4, 0)


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        (status(404), UsageError, "HTTP 404"),
        (status(500), JobError, "HTTP 500"),
        (status(403), JobError, "HTTP 403"),
        (serve(b"<html>log in</html>"), JobError, "no directory index"),
        (serve(b"<html>"), JobError, "was cut"),
    ],
)
def test_no_index_no_mirror(
    run: Run, published: Server, to: Path, fault: Any, error: type[Exception], said: str
) -> None:
    published.faults[FOLDER] = [ALWAYS(fault)]
    with pytest.raises(error, match=said):
        run()
    assert not to.exists()


def test_a_disk_that_takes_no_more_ends_it(
    run: Run, to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(limit=1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("engine.mirror.part.Part.append", full)
        with pytest.raises(JobError, match=r"No space left on device; 0 files were fetched"):
            run()
    assert contents(to) == whole(A)
    assert counts(run()) == (4, 1, 3, 0)


def test_an_interrupt_leaves_whole_files_only(
    run: Run, published: Server, to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (C, D):
        published.faults[FOLDER + name] = [slow(1000, 0.05)]

    def interrupt(mirror: Mirror) -> None:
        if len(mirror.result.fetched) == 2 and mirror.result.bytes > 103_000:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Mirror, "_tick", interrupt)
        result = run()
    assert result.interrupted and sorted(result.fetched) == [A, B] and result.seconds < 2
    assert contents(to) == whole(A, B) and len(hidden(to)) == 2
    assert run().bytes < 100_000
    assert contents(to) == whole(*NAMES) and not hidden(to)


# Dry runs, and targets


def test_a_dry_run_touches_nothing(run: Run, published: Server, to: Path) -> None:
    result = run(dry_run=True)
    assert counts(result) == (4, 0, 0, 0)
    assert (result.to_fetch, result.to_fetch_bytes) == (4, 200_000)
    assert paths(published) == [""] and not to.exists()


def test_two_runs_do_not_fill_one_target(run: Run, to: Path) -> None:
    with Target(str(to)).locked("mirror-baseline"), pytest.raises(UsageError, match="another run"):
        run()
    run()


@pytest.mark.parametrize("target", ["file", "file/below"])
def test_a_target_that_is_a_file(run: Run, tmp_path: Path, target: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="target"):
        run(target=tmp_path / target)


@pytest.mark.parametrize("uri", ["gopher://host/x", ""])
def test_a_target_that_cannot_be(run: Run, uri: str) -> None:
    with pytest.raises(UsageError, match="cannot open this kind of URI"):
        run(target=uri)


def test_a_file_uri_and_a_relative_path(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(target=(tmp_path / "to").as_uri())
    assert counts(run(target="to/")) == (4, 4, 0, 0)


def test_an_object_store_gets_whole_files_only(
    run: Run, published: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBMARK_CACHE", str(tmp_path / "cache"))
    store = fsspec.filesystem("memory")
    published.faults[FOLDER + B] = [ALWAYS(drop(1000))]
    assert counts(run(target="memory://mirror/x")) == (4, 0, 3, 1)
    held = {Path(p).name: store.cat_file(p) for p in store.find("/mirror/x")}
    held.pop(".mirror-baseline.json")
    assert held.pop(".mirror-baseline.last") == D.encode()
    assert held == whole(A, C, D)
    published.faults.clear()
    assert run(target="memory://mirror/x").fetched == [B]
    assert counts(run(target="memory://mirror/x/", verify=True)) == (4, 4, 0, 0)
    assert not hidden(next((tmp_path / "cache/mirror").iterdir()))
    store.rm("/mirror", recursive=True)


def test_an_upload_that_breaks_leaves_no_object(
    run: Run, published: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBMARK_CACHE", str(tmp_path / "cache"))
    store = fsspec.filesystem("memory")

    def short(source: Any, file: Any, _: int) -> None:
        file.write(source.read()[:100])

    with monkeypatch.context() as patched:
        patched.setattr("engine.mirror.target.shutil.copyfileobj", short)
        with pytest.raises(JobError, match="100 bytes arrived of 50000"):
            run(target="memory://mirror/y", connections=1)
    assert not store.exists(f"/mirror/y/{A}")
    result = run(target="memory://mirror/y")
    assert counts(result) == (4, 0, 4, 0) and result.bytes == 150_000  # one only uploaded
    store.rm("/mirror", recursive=True)


def test_what_is_reported(published: Server, to: Path) -> None:
    seen: list[tuple[int, int]] = []
    client = Client(connections=1)
    mirror = Mirror(
        "baseline", published.url, Target(str(to)), client, connections=1,
        report=lambda r: seen.append((len(r.fetched), r.bytes)),
    )  # fmt: skip
    mirror.run()
    assert seen[-1] == (4, 200_000) and seen == sorted(seen)
    assert not [t for t in threading.enumerate() if "loop" in t.name]
