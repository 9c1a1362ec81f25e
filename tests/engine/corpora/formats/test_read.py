"""A corpus's files, folders and globs; formats told by name."""

import gzip
from pathlib import Path

import pytest

from engine.corpora.formats.read import first_line, read_corpus, tell_format
from engine.corpora.formats.texts import AnnotatedText
from schemas.errors import UsageError

PUBTATOR = "7|t|Gout\n7|a|Flu.\n7\t0\t4\tGout\tDisease\n"
IOB = "Gout B-Disease\n. O\n"
BIOC = '{"documents": [{"id": "7", "passages": [{"offset": 0, "text": "Gout"}]}]}'
XML = "<c><document><id>7</id><passage><offset>0</offset><text>Gout</text></passage></document></c>"
ANN = "T1\tDisease 0 4\tGout\n"


def texts(file: Path | str, form: str | None = None) -> list[str]:
    return [i.text for i in read_corpus(str(file), form, False) if isinstance(i, AnnotatedText)]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.PubTator", PUBTATOR, "Gout Flu."),
        ("a.mark", "<mark>Gout</mark>.\n", "Gout."),
        ("a.iob2", IOB, "Gout ."),
        ("a.tsv", IOB, "Gout ."),
        ("a.json", BIOC, "Gout"),
        ("a.xml", XML, "Gout"),
    ],
)
def test_told_by_name(tmp_path: Path, name: str, text: str, expected: str) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    assert texts(tmp_path / name) == texts(tmp_path / f"{name}.gz") == [expected]
    assert texts(f"file://{tmp_path}/{name}") == [expected]


def test_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("<mark>Gout</mark>.\n")
    assert texts(tmp_path / "a.txt", "mark") == ["Gout."]
    with pytest.raises(UsageError, match=r"a.txt: unknown format; expected --format mark, pubt"):
        texts(tmp_path / "a.txt")


def test_a_folder_and_a_glob(tmp_path: Path) -> None:
    for name in ("b.pubtator", "a.pubtator", "README.md"):
        (tmp_path / name).write_text(PUBTATOR.replace("Gout", name[0] * 4))
    assert texts(tmp_path) == texts(f"{tmp_path}/*.pubtator") == ["aaaa Flu.", "bbbb Flu."]


def test_brat_is_pairs_of_files(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("7", "sub/8"):
        (tmp_path / f"{name}.txt").write_text("Gout\nFlu.\n")
        (tmp_path / f"{name}.ann").write_text(ANN)
    (tmp_path / "annotation.conf").write_text("x")
    found = [i for i in read_corpus(str(tmp_path), None, False) if isinstance(i, AnnotatedText)]
    assert [(i.document, i.pmid, len(i.mentions)) for i in found] == [("7", 7, 1), ("sub/8", 8, 1)]
    assert texts(tmp_path / "7.ann") == texts(tmp_path / "7.txt", "brat") == ["Gout Flu."]


def test_brat_without_its_other_half(tmp_path: Path) -> None:
    (tmp_path / "7.ann").write_text(ANN)
    with pytest.raises(UsageError, match=r"7\.txt"):
        texts(tmp_path / "7.ann")
    (tmp_path / "7.ann").rename(tmp_path / "8.ann")
    (tmp_path / "7.txt").write_text("Gout")
    (tmp_path / "8.txt").write_text("Gout")
    assert texts(tmp_path) == ["Gout"]


@pytest.mark.parametrize("name", ["none.pubtator", "none*.pubtator", "s4://bucket/x.pubtator"])
def test_nothing_there(tmp_path: Path, name: str) -> None:
    file = name if "://" in name else f"{tmp_path}/{name}"
    with pytest.raises(UsageError, match="cannot be read"):
        texts(file)


def test_a_folder_of_other_files(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.md").write_text("x")
    with pytest.raises(UsageError, match="unknown format"):
        texts(tmp_path)
    with pytest.raises(UsageError, match=r"holds no file of pubtator \(.pubtator\)"):
        texts(tmp_path, "pubtator")


@pytest.mark.parametrize("name", ["a.pubtator", "a.json", "a.xml"])
def test_a_zip_that_breaks_off(tmp_path: Path, name: str) -> None:
    data = gzip.compress(bytes(range(256)) * 40)[:-30]
    (tmp_path / f"{name}.gz").write_bytes(data)
    with pytest.raises(UsageError, match=rf"{name}.gz"):
        texts(tmp_path / f"{name}.gz")


@pytest.mark.parametrize(
    ("line", "form"),
    [
        ("1|t|Title", "pubtator"),
        ("T\tNN\tB-Gene", "iob"),
        ("[ O", "iob"),
        ("-DOCSTART- -X- O O", "iob"),
        ('<?xml version="1.0"?>', "bioc-xml"),
        ("<collection>", "bioc-xml"),
        ('{"documents": []}', "bioc-json"),
        ("[", "bioc-json"),
        ("a <mark>gene</mark> .", "mark"),
        ("<mark>Gout</mark> hurts", "mark"),
        ("Some text.", None),
    ],
)
def test_the_format_of_a_first_line(line: str, form: str | None) -> None:
    assert tell_format(line) == form


def test_the_first_line_is_the_first_that_is_not_empty(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(gzip.compress(b"\xef\xbb\xbf\n \nna\xefve\nb\n"))
    assert first_line(str(file)) == "na\ufffdve"
    file.write_bytes(b"\n")
    assert first_line(str(file)) is None
    for missing in (tmp_path, tmp_path / "no"):
        with pytest.raises(UsageError, match="cannot be read"):
            first_line(str(missing))
