"""brat's pairs of files: pieces, lines, and what does not fit."""

import pytest

from engine.corpora.formats.brat import read_brat
from engine.corpora.formats.texts import AnnotatedText, Fault
from schemas.spans import Span, TypedSpan

TEXT = "Gout and flu\nGout of left and\nright knee.\n"


def one(annotations: str, text: str = TEXT, name: str = "a/7") -> AnnotatedText:
    (found,) = read_brat(name, text.encode(), annotations.encode())
    assert isinstance(found, AnnotatedText)
    return found


def test_line_ends_become_spaces() -> None:
    found = one("T1\tDisease 0 4\tGout\r\nT2\tDisease 26 29;30 35\tand right\n")
    assert found == AnnotatedText(
        "a/7",
        "a/7.txt",
        "Gout and flu Gout of left and right knee.",
        [TypedSpan(0, 4, "Disease"), TypedSpan(26, 35, "Disease")],
        "citation",
        7,
        12,
    )


def test_one_line_is_a_title_alone() -> None:
    assert (one("", "Gout.").title_length, one("", "Gout.", "x").pmid) == (5, None)
    assert one("", "\nGout.").title_length == 0


def test_all_but_mentions_is_passed_over() -> None:
    annotations = "R1\tTreats Arg1:T1 Arg2:T2\nA1\tNegated T1\n#1\tNote T1\thm\n*\tEquiv T1 T2\n\n"
    found = one(annotations)
    assert (found.mentions, found.faults) == ([], [])


def test_a_mention_of_several_pieces_is_fatal_where_it_lies() -> None:
    found = one("T1\tPart 21 25;36 40\tleft knee")
    (fault,) = found.faults
    assert (fault.reason, fault.span, fault.fatal) == ("discontinuous mention", Span(21, 40), True)
    assert fault.place == "a/7.ann, line 1"
    assert (found.mentions, found.unplaced) == ([], 1)


@pytest.mark.parametrize(
    ("line", "reason", "fatal"),
    [
        ("T1\tDisease 0 4\tgout", "text differs", False),
        ("T1\tDisease 0 99\tGout", "outside the text", True),
        ("T1\tDisease 4 0\tGout", "outside the text", True),
        ("T1 Disease 0 4 Gout", "malformed line", True),
        ("T1\tDisease 0\tGout", "malformed line", True),
        ("what", "malformed line", True),
        ("T1\tDisease 9 12\tflu\nT2\tDisease 9 12\tflu", "repeated mention", False),
    ],
)
def test_faults(line: str, reason: str, fatal: bool) -> None:
    assert [(f.reason, f.fatal) for f in one(line).faults] == [(reason, fatal)]


def test_files_that_hold_no_text() -> None:
    for text, annotations, reason in [
        (TEXT.encode(), None, "malformed text"),
        (b" \n", b"", "malformed text"),
        (b"na\xefve", b"", "not UTF-8"),
    ]:
        (found,) = read_brat("n", text, annotations)
        assert isinstance(found, Fault)
        assert (found.place, found.reason) == ("n.txt", reason)


def test_bad_bytes_in_the_annotations() -> None:
    (found,) = read_brat("n", TEXT.encode(), b"T1\tDisease 0 4\tG\xf6ut\n")
    assert isinstance(found, AnnotatedText)
    assert [(f.place, f.reason, f.fatal) for f in found.faults] == [
        ("n.ann, line 1", "not UTF-8", True)
    ]


ASTRAL = "Göut 😀 and flu.\nWe gave aspirin.\nThe flu ended.\n"
CRLF, BOM = ASTRAL.replace("\n", "\r\n"), "\ufeff"


@pytest.mark.parametrize(
    ("text", "offsets", "count"),
    [
        (CRLF, [(0, 4), (24, 31), (37, 40)], "code points, each line end as 1"),
        (ASTRAL, [(0, 4), (25, 32), (39, 42)], "code points, each line end as 2"),
        (ASTRAL, [(0, 4), (25, 32), (38, 41)], "UTF-16 units"),
        (ASTRAL, [(0, 5), (28, 35), (41, 44)], "UTF-8 bytes"),
        (CRLF, [(0, 5), (28, 35), (41, 44)], "UTF-8 bytes, each line end as 1"),
        (BOM + ASTRAL, [(1, 5), (25, 32), (38, 41)], "code points, with 1 ahead of the text"),
        (BOM + ASTRAL, [(3, 8), (31, 38), (44, 47)], "UTF-8 bytes, with 3 ahead of the text"),
        (BOM + CRLF, [(0, 4), (25, 32), (39, 42)], None),
        (CRLF, [(0, 4), (8, 15), (4, 7)], "code points, from the start of the line"),
    ],
)
def test_offsets_in_another_count(
    text: str, offsets: list[tuple[int, int]], count: str | None
) -> None:
    words = ["Göut", "aspirin", "flu"]
    lines = [
        f"T{i}\tX {s} {e}\t{w}" for i, ((s, e), w) in enumerate(zip(offsets, words, strict=True))
    ]
    read_so = one("\n".join(lines), text)
    assert (read_so.count, read_so.faults) == (count, [])
    assert [read_so.text[m.start : m.end] for m in read_so.mentions] == words
    assert read_so.title_length == 15
    assert not set(read_so.text) & set("\r\n")


def test_pieces_in_another_count_are_joined() -> None:
    read_so = one("T1\tX 8 16;17 19\taspirin. We", "Göut. 😀\r\naspirin.\r\nWe go.")
    assert read_so.count == "code points, each line end as 1"
    assert [read_so.text[m.start : m.end] for m in read_so.mentions] == ["aspirin.  We"]


def test_a_text_most_of_whose_mentions_differ_is_not_gold() -> None:
    found = one("T1\tX 0 4\tGout\nT2\tX 10 13\tflu\nT3\tX 14 18\tleft\n")
    fatal = [f for f in found.faults if f.fatal]
    assert [(f.place, f.reason, f.span) for f in fatal] == [("a/7.ann", "text differs", None)]
    assert found.count is None


def test_a_title_ends_where_its_line_does() -> None:
    for end in ("\n", "\r\n", "\r"):
        assert one("", f"Gout.{end}Flu.").title_length == 5
