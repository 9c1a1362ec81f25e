"""Whole imports: files, splits that agree across corpora, and errors."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from engine.corpora.importer import Corpus, import_corpora
from engine.corpora.splits import is_dev
from schemas.errors import UsageError
from schemas.examples import EXAMPLES_SCHEMA

DEV = [n for n in range(1, 300) if is_dev(str(n), 0.1)]
TRAIN = [n for n in range(1, 300) if not is_dev(str(n), 0.1)]


def sentence(number: int) -> str:
    return f"Case {number} has gout of kind {number} indeed."


def pubtator(*numbers: int) -> str:
    return "".join(f"{n}|t|{sentence(n)}\n{n}|a|\n{n}\t0\t4\tCase\tDisease\n\n" for n in numbers)


def lines(*numbers: int) -> str:
    return "".join(sentence(n).replace("Case", "<mark>Case</mark>") + "\n" for n in numbers)


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def rows(to: Path, stem: str) -> list[dict[str, Any]]:
    table = pq.read_table(to / f"{stem}.parquet")
    assert table.schema.equals(EXAMPLES_SCHEMA)
    return table.to_pylist()


def splits(to: Path, stem: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row in rows(to, stem):
        found.setdefault(row["split"], []).append(int(row["text"].split()[1]))
    return found


def test_files_of_a_corpus_in_two_units(tmp_path: Path, write: Any) -> None:
    text = pubtator(1) + "2|t|Gout\n2|a|A. B.\n2\t0\t99\tx\tDisease\n"
    corpus = Corpus("C", {"train": [write("a.pubtator", text)]}, units=("sentence", "citation"))
    by_sentence, by_citation = import_corpora([corpus], str(tmp_path / "to"))
    assert by_sentence.counts["train"].quarantined_units == 2
    assert by_citation.counts["train"].quarantined_units == 1
    assert by_sentence.annotated_types == ["disease"]
    (row,) = rows(tmp_path / "to", "C.sentences")
    assert (row["corpus"], row["document"], row["pmid"], row["form"]) == ("C", "1", 1, "raw")
    quarantine = (tmp_path / "to/C.citations.quarantine.jsonl").read_text()
    assert json.loads(quarantine) == {
        "corpus": "C", "split": "train", "document": "2", "part": 0,
        "place": "a.pubtator, line 7, document 2", "reason": "outside the text",
        "found": "'x' at 0-99 of 10 code points", "text": "Gout A. B.", "kept": False,
    }  # fmt: skip


def test_dev_by_hash_is_the_same_for_all_corpora(tmp_path: Path, write: Any) -> None:
    numbers = [*DEV[:2], *TRAIN[:3]]
    corpora = [
        Corpus("A", {"train": [write("a.pubtator", pubtator(*numbers))]}, dev="hash"),
        Corpus("B", {"train": [write("b.pubtator", pubtator(*numbers))],
                     "test": [write("t.pubtator", pubtator(DEV[3]))]}),
        Corpus("L", {"train": [write("l.mark", lines(*numbers))]}, lines_of="A"),
    ]  # fmt: skip
    import_corpora(corpora, str(tmp_path / "to"))
    expected = {"dev": DEV[:2], "train": TRAIN[:3]}
    assert splits(tmp_path / "to", "A.sentences") == expected
    assert splits(tmp_path / "to", "B.sentences") == expected | {"test": [DEV[3]]}
    assert splits(tmp_path / "to", "L.sentences") == expected
    assert [r["pmid"] for r in rows(tmp_path / "to", "L.sentences")] == numbers


def test_published_dev_is_what_no_lines_were_taken_from(tmp_path: Path, write: Any) -> None:
    # Documents 1 to 5, of which the lines have those that are not drawn by hash and one that is.
    taken = [TRAIN[0], DEV[0]]
    left = [TRAIN[1], DEV[1]]
    corpora = [
        Corpus("L", {"train": [write("l.mark", lines(*taken))]}, lines_of="P"),
        Corpus("P", {"train": [write("p.pubtator", pubtator(*taken, *left))]}, dev="published"),
        Corpus("H", {"train": [write("h.pubtator", pubtator(*taken, *left, DEV[2]))]}, dev="hash"),
    ]
    import_corpora(corpora, str(tmp_path / "to"))
    assert splits(tmp_path / "to", "L.sentences") == {"train": taken}
    assert splits(tmp_path / "to", "P.sentences") == {"train": taken, "dev": left}
    # A published split stays as it is; another corpus follows it, and draws only its own.
    assert splits(tmp_path / "to", "H.sentences") == {"train": taken, "dev": [*left, DEV[2]]}


def test_a_line_between_two_splits_is_quarantined(tmp_path: Path, write: Any) -> None:
    text = lines(TRAIN[0]) + "mangled\n" + lines(DEV[0])
    corpora = [
        Corpus("P", {"train": [write("p.pubtator", pubtator(TRAIN[0], DEV[0]))]}, dev="hash"),
        Corpus("L", {"train": [write("l.mark", text)]}, lines_of="P"),
    ]
    found = import_corpora(corpora, str(tmp_path / "to"))[1]
    assert {s: c.examples for s, c in found.counts.items()} == {"train": 1, "unknown": 0, "dev": 1}
    assert found.counts["unknown"].quarantined == {"unknown document": 1}


def test_lines_without_documents_are_drawn_one_by_one(tmp_path: Path, write: Any) -> None:
    text = lines(*range(300)) + lines(*range(300)).replace(".", " .")
    corpus = Corpus("L", {"train": [write("l.mark", text)]}, dev="hash")
    import_corpora([corpus], str(tmp_path / "to"))
    found = splits(tmp_path / "to", "L.sentences")
    assert 15 < len(set(found["dev"])) < 45
    assert not set(found["dev"]) & set(found["train"])


def test_sentences_of_a_document_are_drawn_together(tmp_path: Path, write: Any) -> None:
    text = "".join(f"-DOCSTART- O\n\na{n} O\n\nb{n} O\n\n" for n in range(60))
    corpus = Corpus("I", {"train": [write("i.iob", text)]}, dev="hash", types={"x": "disease"})
    import_corpora([corpus], str(tmp_path / "to"))
    by_document: dict[str, set[str]] = {}
    for row in rows(tmp_path / "to", "I.sentences"):
        by_document.setdefault(row["document"], set()).add(row["split"])
        assert row["form"] == "tokenised"
        assert row["annotated_types"] == ["disease"]
    assert all(len(found) == 1 for found in by_document.values())
    assert {"dev"} in by_document.values()


def test_an_empty_corpus_is_named(tmp_path: Path, write: Any) -> None:
    for text, why in [("", "$"), ("what\n", "line 1: malformed text: what")]:
        corpus = Corpus("C", {"train": [write("a.pubtator", text)]})
        with pytest.raises(UsageError, match=f"corpus C, .*a.pubtator: holds no text.*{why}"):
            import_corpora([corpus], str(tmp_path / "to"))
    assert not (tmp_path / "to").exists()


BAD = "5|t|Gout\n5\tx\n"


def test_a_corpus_of_which_nothing_became_an_example_is_not_written(
    tmp_path: Path, write: Any
) -> None:
    good = Corpus("G", {"train": [write("g.pubtator", pubtator(1))]})
    bad = Corpus("B", {"train": [write("b.pubtator", BAD)]}, units=("sentence", "citation"))
    with pytest.raises(UsageError) as e:
        import_corpora([good, bad], str(tmp_path / "to"))
    found = (
        f"\n  train file {tmp_path}/b.pubtator: all of 1 text set aside (malformed line 1), first "
        "b.pubtator, line 2, document 5: malformed line: '5 x', expected PMID, start, end, text, "
        "type and at most an identifier, by tabs"
    )
    assert str(e.value) == "\n".join(
        f"corpus B: no {unit} of it became an example:{found}" for unit in ("sentence", "citation")
    )
    assert not (tmp_path / "to").exists()


def test_a_file_of_which_nothing_became_an_example_is_named(tmp_path: Path, write: Any) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, text in (("a", pubtator(2)), ("b", BAD), ("c", "")):
        (folder / f"{name}.pubtator").write_text(text)
    files = [write("g.pubtator", pubtator(1)), write("b.pubtator", BAD), str(folder)]
    # What stands above word by word is there already.
    again = write("again.pubtator", pubtator(1))
    (found,) = import_corpora(
        [Corpus("C", {"train": [*files, again], "test": [again]})], str(tmp_path / "to")
    )
    assert [told.split(": all of")[0] for told in found.without_examples] == [
        f"train file {tmp_path}/b.pubtator",
        f"train file {folder}, b.pubtator",
        f"train file {folder}, c.pubtator",
    ]
    assert splits(tmp_path / "to", "C.sentences") == {"train": [1, 2], "test": [1]}
    # The place of a fault names its file within the folder.
    quarantine = (tmp_path / "to/C.sentences.quarantine.jsonl").read_text().splitlines()
    places = [json.loads(row)["place"] for row in quarantine]
    assert [p for p in places if p.startswith(("b.", "c."))] == [
        "b.pubtator, line 2, document 5", "b.pubtator, line 2, document 5",
        "c.pubtator, at the start",
    ]  # fmt: skip


def test_texts_that_contradict_each_other_are_no_examples(tmp_path: Path, write: Any) -> None:
    one, other = pubtator(1), pubtator(1).replace("\t4\tCase\t", "\t6\tCase 1\t")
    corpus = Corpus("C", {"train": [write("1.pubtator", one), write("2.pubtator", other)]})
    with pytest.raises(UsageError, match=r"all of 1 text set aside \(contradicted text 1\)"):
        import_corpora([corpus], str(tmp_path / "to"))


def test_targets_that_are_there(tmp_path: Path, write: Any) -> None:
    corpus = Corpus("C", {"train": [write("a.pubtator", pubtator(1))]})
    import_corpora([corpus], str(tmp_path / "to"))
    with pytest.raises(UsageError, match=r"target .*C.sentences.parquet: exists; --force replaces"):
        import_corpora([corpus], str(tmp_path / "to"))
    import_corpora([corpus], str(tmp_path / "to"), force=True)
    with pytest.raises(UsageError, match="cannot be made"):
        import_corpora([corpus], str(tmp_path / "a.pubtator" / "x"))


def test_wrong_names(tmp_path: Path) -> None:
    for corpora, message in [
        ([Corpus("C", {}), Corpus("C", {})], "corpus 'C': expected names that are distinct"),
        ([Corpus("a/b", {})], "corpus 'a/b'"),
        ([Corpus("C", {}, lines_of="D")], "lines_of D: expected one of C"),
        ([Corpus("C", {}, types="what")], "types 'what': expected"),
    ]:
        with pytest.raises(UsageError, match=message):
            import_corpora(corpora, str(tmp_path))
