"""What a turn fetches, and what it makes of what it cannot have."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from nlm_server import ALWAYS, Server, nlm_server, status

from engine.mirror.copying import Mirror, Mirrored
from engine.refresh.fetch import Fetched, current_shards, fetch
from schemas.configs.refresh import MirrorPart, RefreshConfig
from schemas.errors import UsageError


@pytest.fixture
def server() -> Iterator[Server]:
    with nlm_server() as started:
        started.publish("baseline", "pubmed26n0001.xml.gz", b"1")
        started.publish("baseline", "pubmed26n0002.xml.gz", b"2")
        started.publish("updatefiles", "pubmed26n0003.xml.gz", b"3")
        yield started


@pytest.fixture
def part(server: Server, tmp_path: Path) -> MirrorPart:
    return MirrorPart(
        to=str(tmp_path / "m"), source=server.url, kinds=["updates", "baseline"], retries=0,
        backoff_seconds=0.01,
    )  # fmt: skip


def test_without_a_mirror_nothing_is_fetched() -> None:
    assert fetch(None) == Fetched()


def test_a_whole_baseline_is_known_by_its_year(part: MirrorPart) -> None:
    assert fetch(part) == Fetched(3, baseline=(26, 2))
    assert fetch(part) == Fetched(0, baseline=(26, 2))
    updates = part.model_copy(update={"kinds": ["updates"]})
    assert fetch(updates) == Fetched(0, baseline=None)


def test_a_file_that_is_not_given_is_a_problem_and_the_others_come(
    server: Server, part: MirrorPart
) -> None:
    server.faults["/pubmed/baseline/pubmed26n0002.xml.gz"] = [ALWAYS(status(404))]
    fetched = fetch(part)
    assert (fetched.files, fetched.baseline) == (2, None)
    assert fetched.problems == ["mirror pubmed26n0002.xml.gz: HTTP 404 Not Found"]


def test_a_kind_that_is_not_given_is_a_problem_and_the_other_comes(
    server: Server, part: MirrorPart
) -> None:
    server.faults["/pubmed/baseline/"] = [ALWAYS(status(404))]
    fetched = fetch(part)
    assert (fetched.files, fetched.baseline) == (1, None)
    (problem,) = fetched.problems
    assert problem.startswith("mirror baseline: http") and "HTTP 404" in problem


def test_an_interrupt_leaves_the_other_kind(
    part: MirrorPart, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(mirror: Mirror) -> Mirrored:
        mirror.result.fetched.append("pubmed26n0001.xml.gz")
        mirror.result.interrupted = True
        return mirror.result

    monkeypatch.setattr(Mirror, "run", interrupted)
    assert fetch(part) == Fetched(1, interrupted=True)


def test_the_mirrors_folder_stands_for_sources_that_are_not_named(
    part: MirrorPart, tmp_path: Path
) -> None:
    config = RefreshConfig(to="t", mirror=part)
    with pytest.raises(UsageError, match="does not exist"):
        current_shards(config)
    fetch(part)
    assert len(current_shards(config)) == 3
    (tmp_path / "own.xml").touch()
    named = RefreshConfig(to="t", mirror=part, sources=[str(tmp_path / "own.xml")])
    assert [s.name for s in current_shards(named)] == ["own.xml"]
