"""CoNLL columns: sentences, documents, and lines that are neither."""

import io

import pytest

from engine.corpora.formats.iob import is_iob, read_iob
from engine.corpora.formats.texts import AnnotatedText, Fault
from engine.corpora.types import UNTYPED
from schemas.spans import TypedSpan


def read(text: str | bytes) -> list[AnnotatedText | Fault]:
    data = text.encode() if isinstance(text, str) else text
    return list(read_iob(io.BytesIO(data), "file"))


def mentions(tags: str) -> list[tuple[int, int, str]]:
    """Of a sentence whose tokens are ``t``: in tokens."""
    (found,) = read("\n".join(f"t {tag}" for tag in tags.split()))
    assert isinstance(found, AnnotatedText) and not found.faults
    return [(m.start // 2, m.end // 2 + 1, m.entity_type) for m in found.mentions]


def test_a_text_is_its_tokens_with_a_space_between() -> None:
    text = "T\tNN\tB-Gene\n-\tX\tI-Gene\ncell\tNN\tO\n\n\nGout\tO\n"
    assert read(text) == [
        AnnotatedText("file:1", "line 1", "T - cell", [TypedSpan(0, 3, "Gene")], "sentence",
                  form="tokenised"),
        AnnotatedText("file:6", "line 6", "Gout", [], "sentence", form="tokenised"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("I-A I-A O", [(0, 2, "A")]),  # IOB1
        ("I-A B-A I-A", [(0, 1, "A"), (1, 3, "A")]),
        ("B-A I-A B-A", [(0, 2, "A"), (2, 3, "A")]),  # IOB2
        ("S-A B-A E-A", [(0, 1, "A"), (1, 3, "A")]),  # IOBES
        ("U-A B-A I-A L-A U-B", [(0, 1, "A"), (1, 4, "A"), (4, 5, "B")]),  # BILOU
        ("B-cell-line I-cell-line", [(0, 2, "cell-line")]),
        ("B I O I", [(0, 2, UNTYPED), (3, 4, UNTYPED)]),
        # Broken ones: I, E or L begins a mention where there is none of its type to go on with.
        ("O I-A", [(1, 2, "A")]),
        ("I-A I-A O I-A", [(0, 2, "A"), (3, 4, "A")]),
        ("B-A I-B", [(0, 1, "A"), (1, 2, "B")]),
        ("I-A I-B I-A", [(0, 1, "A"), (1, 2, "B"), (2, 3, "A")]),
        ("B-A E-B", [(0, 1, "A"), (1, 2, "B")]),
        ("B-A E-A E-A", [(0, 2, "A"), (2, 3, "A")]),
        ("B-A E-A I-A", [(0, 2, "A"), (2, 3, "A")]),
        ("B-A L-A I-A", [(0, 2, "A"), (2, 3, "A")]),
        ("S-A I-A", [(0, 1, "A"), (1, 2, "A")]),
        ("S-A E-A", [(0, 1, "A"), (1, 2, "A")]),
        ("U-A L-A", [(0, 1, "A"), (1, 2, "A")]),
        ("O E-A", [(1, 2, "A")]),
        ("O L-A", [(1, 2, "A")]),
        ("B I-A", [(0, 1, UNTYPED), (1, 2, "A")]),
    ],
)
def test_schemes(tags: str, expected: list[tuple[int, int, str]]) -> None:
    assert mentions(tags) == expected


def test_documents() -> None:
    text = "-DOCSTART- -X- O\n\na O\n\nb O\n\n###MEDLINE:9\nc O\n"
    found = [(i.document, i.text) for i in read(text) if isinstance(i, AnnotatedText)]
    assert found == [("file:1", "a"), ("file:1", "b"), ("file:7", "c")]


@pytest.mark.parametrize(
    "line", ["alone", "t X-Gene", "t BB-Gene", "t B-", "\tO", "t b-Gene", "t o", "t Gene", "t\t"]
)
def test_a_line_that_is_none_makes_its_sentence_fatal(line: str) -> None:
    bad, good = read(f"a B-Gene\n{line}\n\nb O\n")
    assert isinstance(bad, AnnotatedText) and isinstance(good, AnnotatedText)
    (fault,) = bad.faults
    assert (fault.place, fault.reason, fault.fatal) == ("line 2", "malformed line", True)
    assert fault.found == f"{line}, expected a token and a tag such as B-Disease, I-Disease or O"
    assert good.faults == []


def test_a_line_of_the_format_is_known() -> None:
    assert all(map(is_iob, ("[ O", "a\tX\tB-Gene", "-DOCSTART- -X- O", "###MEDLINE:9")))
    assert not any(map(is_iob, ("", "O", "1|t|Title", "a X-Gene", "\tO")))


def test_bad_bytes() -> None:
    bad, good = read(b"a O\nna\xefve O\n\nb O\n")
    assert isinstance(bad, AnnotatedText) and isinstance(good, AnnotatedText)
    assert [(f.place, f.reason) for f in bad.faults] == [("line 2", "not UTF-8")]


def test_nothing() -> None:
    assert read("") == read("-DOCSTART- O\n\n") == []
