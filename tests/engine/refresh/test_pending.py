"""Which files a table has not taken in, and how little is read to know it."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from nlm_server import md5_of as md5

from engine.mirror.known import KnownFile, KnownFiles
from engine.mirror.target import Target
from engine.refresh import pending as module
from engine.refresh.pending import md5_of, pending
from engine.sources.shards import Shard, digest_shard, find_shards
from engine.tables.ledger import Ledger

OLD = 10**18
"""A time of change, in nanoseconds, long enough ago to be trusted."""


class Taken(Ledger):
    """A ledger of the given (name, MD5)s."""

    def __init__(self, *files: tuple[str, str], baseline: int | None = None):
        self._numbers = {f"pubmark.file {name} {md5}": i for i, (name, md5) in enumerate(files, 1)}
        if baseline is not None:
            self._numbers["pubmark.baseline"] = baseline


@pytest.fixture(autouse=True)
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read for their MD5; with a cache of the test's own."""
    monkeypatch.setenv("PUBMARK_CACHE", str(tmp_path / "cache"))
    names: list[str] = []

    def digest(shard: Shard) -> str:
        names.append(shard.name)
        return digest_shard(shard)

    monkeypatch.setattr(module, "digest_shard", digest)
    return names


def write(folder: Path, name: str, content: bytes, changed: int = OLD) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    os.utime(folder / name, ns=(changed, changed))


def names(shards: Sequence[Shard]) -> list[str]:
    return [s.name for s in shards]


def test_a_file_is_known_by_name_and_content(tmp_path: Path) -> None:
    for name in ("pubmed26n0001.xml", "pubmed26n0002.xml", "a.xml"):
        write(tmp_path / "in", name, name.encode())
    shards = find_shards([str(tmp_path / "in")])
    taken = Taken(
        ("pubmed26n0001.xml", md5(b"pubmed26n0001.xml")), ("a.xml", md5(b"changed since"))
    )
    assert names(pending(shards, taken, None)) == ["pubmed26n0002.xml", "a.xml"]


def test_years_before_the_newest_baseline_are_not_pending(tmp_path: Path, read: list[str]) -> None:
    for name in ("pubmed25n0001.xml", "pubmed26n0001.xml", "a.xml"):
        write(tmp_path / "in", name, name.encode())
    shards = find_shards([str(tmp_path / "in")])
    assert names(pending(shards, Taken(baseline=26), None)) == ["pubmed26n0001.xml", "a.xml"]
    assert read == ["pubmed26n0001.xml", "a.xml"]


def test_a_file_is_read_once_for_each_change(tmp_path: Path, read: list[str]) -> None:
    write(tmp_path / "in", "a.xml", b"1")
    (shard,) = find_shards([str(tmp_path / "in")])
    assert [md5_of(shard) for _ in range(2)] == [md5(b"1")] * 2
    assert read == ["a.xml"]
    write(tmp_path / "in", "a.xml", b"2", OLD + 10**9)
    assert md5_of(shard) == md5(b"2")
    assert read == ["a.xml"] * 2


def test_a_mirrors_own_record_is_believed(tmp_path: Path, read: list[str]) -> None:
    folder, known = tmp_path / "m", KnownFiles(Target(str(tmp_path / "m")), "updates")
    for name in ("pubmed26n0001.xml.gz", "pubmed26n0002.xml.gz"):
        write(folder, name, b"123")
    known.add("pubmed26n0001.xml.gz", KnownFile(3, "md5-of-1", ""))
    known.add("pubmed26n0002.xml.gz", KnownFile(4, "md5-of-2", ""))  # cut since, or another
    known.save()
    shards = find_shards([str(folder)])
    taken = Taken(("pubmed26n0001.xml.gz", "md5-of-1"), ("pubmed26n0002.xml.gz", "md5-of-2"))
    assert names(pending(shards, taken, str(folder))) == ["pubmed26n0002.xml.gz"]
    assert read == ["pubmed26n0002.xml.gz"]


def test_a_record_is_not_believed_of_files_elsewhere(tmp_path: Path, read: list[str]) -> None:
    known = KnownFiles(Target(str(tmp_path / "m")), "updates")
    known.add("pubmed26n0001.xml.gz", KnownFile(3, "md5-of-1", ""))
    (tmp_path / "m").mkdir()
    known.save()
    write(tmp_path / "m2", "pubmed26n0001.xml.gz", b"123")
    shards = find_shards([str(tmp_path / "m2")])
    taken = Taken(("pubmed26n0001.xml.gz", "md5-of-1"))
    assert pending(shards, taken, str(tmp_path / "m")) == shards
    assert read == ["pubmed26n0001.xml.gz"]
