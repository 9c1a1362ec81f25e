"""A corpus's files, folders and globs; formats told by name."""

import gzip
from pathlib import Path

import pytest

from engine.corpora.formats.read import first_line, read_corpus, read_files, tell_format
from engine.corpora.formats.texts import AnnotatedText, Fault
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
        ("Metformin B-Chemical +", "iob"),
        ('{"PubTator3": [', "bioc-json"),
        ('[{"documents": []}]', "bioc-json"),
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


IN_BYTES = "{0}|t|Gö\n{0}|a|Gout flu.\n{0}\t4\t8\tGout\tDisease\n{0}\t9\t12\tflu\tDisease\n\n"


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    caplog.clear()
    return found


def test_another_count_is_told_once_per_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in "ab":
        (tmp_path / f"{name}.pubtator").write_text(IN_BYTES.format(7) + IN_BYTES.format(8))
    (tmp_path / "c.pubtator").write_text(PUBTATOR)
    texts(tmp_path / "a.pubtator")
    (told,) = warnings(caplog)
    assert told.startswith(f"{tmp_path}/a.pubtator: offsets do not count code points")
    assert told.endswith("UTF-8 bytes in 2 (such as 7)")
    texts(tmp_path)
    told_of_folder = warnings(caplog)
    assert [told.split(": ")[0] for told in told_of_folder] == [
        f"{tmp_path}, a.pubtator", f"{tmp_path}, b.pubtator",
    ]  # fmt: skip
    texts(tmp_path / "c.pubtator")
    assert not warnings(caplog)


def test_another_count_is_told_once_per_folder_of_pairs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in "789":
        (tmp_path / f"{name}.txt").write_bytes(b"Gout\r\nFlu.\r\n")
        (tmp_path / f"{name}.ann").write_text("T1\tDisease 5 8\tFlu\n")
    assert texts(tmp_path) == ["Gout  Flu."] * 3
    (told,) = warnings(caplog)
    assert told.startswith(f"{tmp_path}: ")
    assert told.endswith("code points, each line end as 1 in 3 (such as 7)")


def test_an_empty_file_of_a_folder_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a.pubtator").write_text(PUBTATOR)
    (tmp_path / "b.pubtator").write_text("\n")
    first, second = read_files(str(tmp_path), None, False)
    assert (first[0], second[0]) == ("a.pubtator", "b.pubtator")
    assert isinstance(second[1], Fault) and second[1].reason == "malformed text"


def test_what_an_import_sets_aside_is_no_corpus(tmp_path: Path) -> None:
    (tmp_path / "7.txt").write_text("Gout\nFlu.\n")
    (tmp_path / "7.ann").write_text(ANN)
    (tmp_path / "c.sentences.quarantine.jsonl").write_text("{}\n")
    assert texts(tmp_path) == ["Gout Flu."]


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json"])
def test_a_document_a_line(tmp_path: Path, name: str) -> None:
    line = BIOC.replace('{"documents": [', "")[:-2] + "\n"
    (tmp_path / name).write_text(line * 2)
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(line.encode() * 2))
    assert texts(tmp_path / name) == texts(tmp_path / f"{name}.gz") == ["Gout", "Gout"]
