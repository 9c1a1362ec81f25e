"""CoNLL columns: sentences, documents, and lines that are neither."""

import gzip
import io

import pytest

from engine.corpora.formats.iob import is_iob, read_iob
from engine.corpora.formats.texts import AnnotatedText, Fault
from engine.corpora.types import UNTYPED
from schemas.errors import DamagedSource
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
        ("B-Gene I-gene E-GENE B-gene", [(0, 3, "Gene"), (3, 4, "gene")]),
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


# White space and hashes within tokens


def tokens(text: str) -> list[str]:
    """The texts of all sentences, none of which has a fault."""
    found = read(text)
    assert all(isinstance(i, AnnotatedText) and not i.faults for i in found)
    return [i.text for i in found if isinstance(i, AnnotatedText)]


SPACES = "\u00a0\u2009\u202f\u3000\u0085\u2028\x1c\x0b\x0c"


@pytest.mark.parametrize("space", list(SPACES), ids=ascii)
def test_white_space_of_unicode_is_part_of_a_token(space: str) -> None:
    text = f"a O\n10{space}mg B-Dose\n{space}x{space} O\nb O\n"
    expected = [f"a 10{space}mg {space}x{space} b"]
    assert tokens(text) == tokens(text.replace(" ", "\t")) == expected
    (found,) = read(text)
    assert isinstance(found, AnnotatedText)
    assert found.mentions == [TypedSpan(2, 7, "Dose")]
    # Also a token that is nothing else, where a tab says that it is one.
    assert tokens(f"a\tO\n{space}\tO\nb\tB-Dose\n") == [f"a {space} b"]


def test_a_column_that_lacks_its_token_or_tag_is_none() -> None:
    for line in ("\u00a0\t", " \tO", "\u00a0O"):
        (found,) = read(f"a\tO\n{line}\nb\tO\n")
        assert isinstance(found, AnnotatedText)
        assert [f.reason for f in found.faults] == ["malformed line"]
    # Tabs alone are an empty line.
    assert tokens("a\tO\n\t\t\nb\tO\n") == ["a", "b"]


@pytest.mark.parametrize("between", [" ", "\t"])
def test_a_token_may_begin_with_hashes(between: str) -> None:
    text = "item O\n###3 O\n### O\n####x B-Chemical\n\n### O\nend O\n".replace(" ", between)
    assert tokens(text) == ["item ###3 ### ####x", "### end"]
    (first, _) = read(text)
    assert isinstance(first, AnnotatedText)
    assert first.mentions == [TypedSpan(14, 19, "Chemical")]


@pytest.mark.parametrize(
    "line", ["###", "###MEDLINE:9", "### abstract 9", "### Vitamin B", "### X-Gene", "###\tGout"]
)
def test_hashes_without_a_tag_begin_a_document(line: str) -> None:
    for between in (" ", "\t"):
        text = f"a O\n\n{line}\nb O\nc O\n".replace(" O", f"{between}O")
        assert [i.document for i in read(text) if isinstance(i, AnnotatedText)] == [
            "file:1", "file:3",
        ]  # fmt: skip


# Columns after the tag


FLAIR = "T B-Cell -\n- I-Cell -\ncell I-Cell +\nline O -\n. O +\n\nGout B-Disease +\n"


def flair(text: str) -> list[tuple[str, list[str]]]:
    found = read(text)
    assert all(isinstance(i, AnnotatedText) and not i.faults for i in found)
    return [
        (i.text, [i.text[m.start : m.end] for m in i.mentions])
        for i in found
        if isinstance(i, AnnotatedText)
    ]


@pytest.mark.parametrize(
    "text",
    [
        FLAIR,
        FLAIR.replace(" ", "\t"),
        FLAIR.replace("\n", "\r\n"),
        "-DOCSTART- O +\n\n" + FLAIR,
        "-DOCSTART-\n\n" + FLAIR.replace("\n\n", "\n\n-DOCSTART- -X- O +\n\n"),
        FLAIR.replace("cell I-Cell +", "cell I-Cell"),  # the last column is missing
        FLAIR.replace(" +", " _").replace(" -\n", " lemma\n"),
        FLAIR.replace(" +", " 0.93 x").replace(" -\n", " 0.5 y\n"),
        FLAIR.replace(" +", "\t\t").replace(" -\n", "\t\t\n").replace(" ", "\t"),
        FLAIR.replace(" B-", " NN B-").replace(" I-", " NN I-").replace(" O", " NN O"),
    ],
)
def test_the_tags_are_in_the_last_column_that_holds_tags(text: str) -> None:
    assert flair(text) == [("T - cell line .", ["T - cell"]), ("Gout", ["Gout"])]


def test_documents_of_flair() -> None:
    text = f"-DOCSTART- O +\n\n{FLAIR}\n-DOCSTART- O +\n\na O +\n"
    documents = [i.document for i in read(text) if isinstance(i, AnnotatedText)]
    assert documents == ["file:1", "file:1", "file:11"]


def test_of_two_columns_with_tags_the_last_one_counts() -> None:
    text = "EU NNP I-NP I-ORG\nrejects VBZ I-VP O\nGerman JJ I-NP I-MISC\n"
    (found,) = read(text)
    assert isinstance(found, AnnotatedText)
    assert [m.entity_type for m in found.mentions] == ["ORG", "MISC"]
    # Also where some lines are damaged.
    (found,) = read(text.replace("I-MISC", "X-MISC"))
    assert isinstance(found, AnnotatedText)
    assert [f.reason for f in found.faults] == ["malformed line"]


def test_a_line_with_a_third_column_is_known() -> None:
    assert all(map(is_iob, ("Metformin B-Chemical +", "a\tO\t-", "-DOCSTART- O +", "10\u00a0mg O")))
    assert not any(map(is_iob, ("the B-cell is small", "a X-Gene +", "\u00a0O")))


def test_what_is_good_before_a_damaged_zip_comes_first() -> None:
    data = gzip.compress("".join(f"{n} O\n\n" for n in range(9_999)).encode())
    found = read_iob(io.BytesIO(data[:-2000]), "file")
    with pytest.raises(DamagedSource):
        for item in found:
            assert isinstance(item, AnnotatedText) and not item.faults
