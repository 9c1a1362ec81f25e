"""Which files a SOURCE names, and in which order."""

import zipfile
from pathlib import Path

import fsspec
import pytest
from nlm_server import md5_of, nlm_server

from engine.sources.shards import Shard, digest_shard, find_shards, open_shard
from schemas.errors import UsageError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)


def names(*sources: str) -> list[str]:
    return [shard.name for shard in find_shards(sources)]


def contents(*sources: str) -> list[str]:
    """What is in the files: ``write`` puts their names there."""
    found = []
    for shard in find_shards(sources):
        with open_shard(shard) as stream:
            found.append(stream.read().decode())
    return found


def fault_of(*sources: str) -> str:
    with pytest.raises(UsageError) as caught:
        find_shards(sources)
    return str(caught.value)


# Order: it decides which record of a PMID counts.


def test_nlm_files_come_by_year_and_number(folder: Path) -> None:
    order = [
        "medline17n0892.xml.gz",
        "pubmed18n0001.xml.gz",
        "pubmed26n0002.xml",
        "pubmed26n0010.xml.gz",
        "pubmed26n1335.xml.gz",
        "pubmed26n10000.xml.gz",
        "pubmed27n0001.xml.gz",
    ]
    write(*order)
    assert names(*reversed(order)) == order
    assert sorted(names(".")) != names(".") == order  # not by name


def test_nlm_files_of_two_folders_mix(folder: Path) -> None:
    write("updatefiles/pubmed26n0003.xml.gz", "baseline/pubmed26n0004.xml.gz")
    write("updatefiles/pubmed26n0001.xml.gz")
    assert names("baseline", "updatefiles/*") == [
        "pubmed26n0001.xml.gz",
        "pubmed26n0003.xml.gz",
        "pubmed26n0004.xml.gz",
    ]
    assert names(".") == [
        "updatefiles/pubmed26n0001.xml.gz",
        "updatefiles/pubmed26n0003.xml.gz",
        "baseline/pubmed26n0004.xml.gz",
    ]


def test_others_follow_in_the_order_given(folder: Path) -> None:
    write("b.xml", "a.jsonl", "pubmed26n0001.xml.gz", "c.parquet", "dir/z.xml", "dir/a/y.xml")
    found = names("b.xml", "dir", "a.jsonl", "pubmed26n0001.xml.gz", "c.parquet")
    assert found == ["pubmed26n0001.xml.gz", "b.xml", "a/y.xml", "z.xml", "a.jsonl", "c.parquet"]


@pytest.mark.parametrize("name", ["pubmed26n0001.jsonl", "pubmed26n001.xml", "pubmed2026n0001.xml"])
def test_names_that_are_not_nlms(name: str, folder: Path) -> None:
    write(name, "a.xml")
    assert names("a.xml", name) == ["a.xml", name]


def test_file_named_twice_is_read_once_where_it_is_named_last(folder: Path) -> None:
    write("a.xml", "b.xml")
    assert names("a.xml", "b.xml", "./a.xml") == ["b.xml", "a.xml"]
    assert names("a.xml", Path("a.xml").absolute().as_uri(), "*.xml") == ["a.xml", "b.xml"]


# What a source names.


def test_file(folder: Path) -> None:
    write("sub/a.xml.gz")
    assert find_shards(["sub/a.xml.gz"]) == [
        Shard(str(folder / "sub/a.xml.gz"), "a.xml.gz", "pubmed-xml")
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.xml", "pubmed-xml"),
        ("a.XML.GZ", "pubmed-xml"),
        ("a.parquet", "parquet"),
        ("a.jsonl", "jsonl"),
        ("a.jsonl.gz", "jsonl"),
        ("a.ndjson", "jsonl"),
    ],
)
def test_kind_by_ending(name: str, kind: str, folder: Path) -> None:
    write(name)
    assert [shard.format for shard in find_shards([name])] == [kind]


def test_directory_is_searched_for_what_can_be_read(folder: Path) -> None:
    write("d/b.xml", "d/b.xml.gz.md5", "d/notes.txt", "d/deep/er/a.xml")
    write("d/.b.xml", "d/_c.xml", "d/_delta_log/0.checkpoint.parquet", "d/.git/x.xml")
    assert names("d") == names("d/") == ["b.xml", "deep/er/a.xml"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("d/*.xml", ["d1.xml", "d2.xml"]),
        ("d/d?.xml", ["d1.xml", "d2.xml"]),
        ("d/d[2-9].xml", ["d2.xml"]),
        ("d*/*/*.xml", ["d/e/x.xml"]),
        ("d/**/*.xml", ["d1.xml", "d2.xml", "e/x.xml"]),
    ],
)
def test_glob(pattern: str, expected: list[str], folder: Path) -> None:
    write("d/d1.xml", "d/d2.xml", "d/d3.txt", "d/e/x.xml")
    Path("d/d3.xml").mkdir()  # a directory that looks like a file
    assert names(pattern) == expected
    assert names(f"{folder.as_uri()}/{pattern}") == expected


def test_name_with_the_signs_of_a_glob(folder: Path) -> None:
    write("a[1]?.xml", "a1x.xml", "[d]/x.xml")
    assert contents("a[1]?.xml", "[d]") == ["a[1]?.xml", "[d]/x.xml"]


def test_file_uri(folder: Path) -> None:
    write("d/a.xml")
    assert contents(folder.as_uri()) == contents(f"{folder.as_uri()}/d/a.xml") == ["d/a.xml"]


def test_memory_uri() -> None:
    fsspec.filesystem("memory").pipe({"/shards/a.xml": b"a", "/shards/sub/b.xml": b"b"})
    assert contents("memory://shards") == contents("memory://shards/**/*.xml") == ["a", "b"]
    assert names("memory://shards") == ["a.xml", "sub/b.xml"]


@pytest.mark.parametrize("source", ["zip://d::{}", "zip://d/*.xml::{}", "zip://d/a.xml::{}"])
def test_inside_a_zip_file(source: str, folder: Path) -> None:
    with zipfile.ZipFile("some.zip", "w") as archive:
        archive.writestr("d/a.xml", "zipped")
    assert contents(source.format("some.zip")) == ["zipped"]
    assert contents(source.format(f"{folder.as_uri()}/some.zip")) == ["zipped"]
    assert names(source.format("some.zip")) == ["a.xml"]


# Wrong usage: named, all at once, before anything starts.


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("", "source '': is empty"),
        ("none.xml", "source none.xml: does not exist"),
        ("none/*.xml", "source none/*.xml: does not exist"),
        ("file:///none.xml", "source file:///none.xml: does not exist"),
        ("memory://none", "source memory://none: does not exist"),
        ("empty", "source empty: holds no file to read"),
        ("emp*", "source emp*: holds no file to read"),
        ("notes.txt", "source notes.txt: unknown kind of file; expected .xml, .xml.gz, .parquet"),
        ("*.txt", "source *.txt: holds no file to read"),
        ("nosuch://x.xml", "source nosuch://x.xml: cannot open this kind of URI"),
        ("zip://a.xml::none.zip", "source zip://a.xml::none.zip: cannot open"),
        ("zip://a.xml::notes.txt", "source zip://a.xml::notes.txt: cannot open"),
    ],
)
def test_fault(source: str, fault: str, folder: Path) -> None:
    write("notes.txt")
    Path("empty").mkdir()
    assert fault_of(source).startswith(fault)


def test_all_faults_at_once(folder: Path) -> None:
    write("good.xml", "notes.txt")
    faults = fault_of("none.xml", "good.xml", "nosuch://x", "notes.txt").splitlines()
    assert [fault.split(":")[0] for fault in faults] == [
        "source none.xml",
        "source nosuch",
        "source notes.txt",
    ]


def test_no_sources() -> None:
    assert find_shards([]) == []


def test_a_signed_link_is_the_same_file_whoever_signed_it() -> None:
    with nlm_server() as server:
        for signature in ("one/with/slashes", "two"):
            server.put(f"/pubmed/pubmed26n0001.xml.gz?X-Amz-Signature={signature}&part=1", b"1")
            link = server.url + f"/pubmed26n0001.xml.gz?X-Amz-Signature={signature}&part=1"
            (shard,) = find_shards([link])
            assert (shard.name, shard.format) == ("pubmed26n0001.xml.gz", "pubmed-xml")
            assert digest_shard(shard) == md5_of(b"1")  # it is opened with its signature
            assert signature not in f"{shard!r} {shard.shown}"
        server.put("/pubmed/get?file=a.xml&token=one", b"2")
        (shard,) = find_shards([server.url + "/get?file=a.xml&token=one"])
        assert (shard.name, digest_shard(shard)) == ("get?file=a.xml", md5_of(b"2"))


def test_credentials_are_no_part_of_a_name(tmp_path: Path) -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/me:S3CRET@signed/in/a.xml", b"1")
    fs.pipe_file("/signed/b.xml?sig=S3CRET.xml", b"2")
    shards = find_shards(["memory://me:S3CRET@signed/in", "memory://signed/b.xml?sig=S3CRET.xml"])
    assert [s.name for s in shards] == ["a.xml", "b.xml"]
    odd = tmp_path / "a;token=1.xml"  # a plain path is no URI
    odd.touch()
    assert [s.name for s in find_shards([str(odd)])] == ["a;token=1.xml"]
