"""How a citation's text is laid out, digested and put into Arrow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.citation import (
    CITATION_SCHEMA,
    TEXT_LAYOUT_VERSION,
    Citation,
    citations_to_batch,
    digest_metadata,
    digest_text,
    lay_out_text,
    squeeze,
)


@pytest.mark.parametrize(
    ("title", "abstract", "text", "title_length"),
    [
        ("Title.", [], "Title.", 6),
        ("Title.", [(None, "Abstract.")], "Title. Abstract.", 6),
        ("", [(None, "Abstract.")], " Abstract.", 0),
        ("", [], "", 0),
        ("", [(None, " \n"), ("AIM", "")], "", 0),
        ("T", [(None, ""), ("AIM", "a"), (None, "b"), ("METHODS", " ")], "T AIM: a b", 1),
        ("T", [("UNLABELLED", "a"), ("Unlabelled", "b"), ("", "c")], "T a b c", 1),
        ("T", [("UNASSIGNED", "a"), ("RESULTS:", "b"), ("AIM.", "c")], "T a RESULTS: b AIM. c", 1),
        (
            "T",
            [("WHY NOW?", "a"), ("RESULTS -", "b"), ("(n)", "c")],
            "T WHY NOW? a RESULTS - b (n): c",
            1,
        ),
        ("T", [(" AIM \n", "a"), (" UNLABELLED ", "b")], "T AIM: a b", 1),
        ("[Not Available].", [(None, "a")], " a", 0),
        (" Not\u00a0available", [], "", 0),
        ("Not available to all.", [], "Not available to all.", 21),
        ("  T\u00a0 t\n", [(None, "\ta  b ")], "T t a b", 3),
        ("𝒜e\u0301", [(None, "🧬")], "𝒜e\u0301 🧬", 3),
    ],
)
def test_layout(
    title: str, abstract: list[tuple[str | None, str]], text: str, title_length: int
) -> None:
    assert lay_out_text(title, abstract) == (text, title_length)


def test_abstract_starts_one_after_the_title() -> None:
    text, title_length = lay_out_text("A 𝒜 title", [("AIM", "Abc.")])
    assert text[:title_length] == "A 𝒜 title"
    assert text[title_length + 1 :] == "AIM: Abc."


def test_squeeze_leaves_zero_width_characters() -> None:
    assert squeeze("\u2003 a\u200b\u0085b\ufeff\u3000") == "a\u200b b\ufeff"


def test_digest_is_blake2b_128_of_utf8() -> None:
    # From the reference implementation (`b2sum -l 128`): stored digests must stay comparable.
    assert digest_text("").hex() == "cae66941d9efbd404e4d88758ea67670"
    assert digest_text("naïve 𝒜").hex() == "098856866d4180546169532bffab19fe"


def test_layout_and_digest_are_pinned_to_the_layout_version() -> None:
    # Another digest here without a new version would make changed texts pass for settled ones.
    text, _ = lay_out_text(" [A\u00a0title] ", [("AIM", "a\nb"), ("UNLABELLED", "c"), (None, "")])
    assert (TEXT_LAYOUT_VERSION, text) == (2, "[A title] AIM: a b c")


def test_batch_of_citations() -> None:
    full = Citation(2**62, "T a", 1, 3, 1809, "J", "eng", "10.9/x", ["Review", "Letter"])
    bare = Citation(1, "", 0)
    batch = citations_to_batch([full, bare], "shard.xml")
    assert batch.schema == CITATION_SCHEMA
    assert batch.to_pylist() == [
        {
            "pmid": 2**62,
            "version": 3,
            "text": "T a",
            "title_length": 1,
            "text_digest": digest_text("T a"),
            "source": "shard.xml",
            "pub_year": 1809,
            "journal": "J",
            "language": "eng",
            "doi": "10.9/x",
            "publication_types": ["Review", "Letter"],
            "metadata_digest": digest_metadata(full),
        },
        {
            "pmid": 1,
            "version": 1,
            "text": "",
            "title_length": 0,
            "text_digest": digest_text(""),
            "source": "shard.xml",
            "pub_year": None,
            "journal": None,
            "language": None,
            "doi": None,
            "publication_types": [],
            "metadata_digest": digest_metadata(bare),
        },
    ]


def test_batch_of_nothing() -> None:
    batch = citations_to_batch([], "shard.xml")
    assert (batch.num_rows, batch.schema) == (0, CITATION_SCHEMA)


def test_only_the_plain_space_is_printable_white_space() -> None:
    # What squeeze's short cut rests on.
    assert [c for c in map(chr, range(0x110000)) if c.isspace() and c.isprintable()] == [" "]


@given(st.text(alphabet=st.sampled_from("ab  \t\n\u00a0\u2003\u3000\x85é😀")))
def test_squeeze_is_split_and_join(text: str) -> None:
    assert squeeze(text) == " ".join(text.split())


def test_every_stored_value_beside_the_text_is_in_the_metadata_digest() -> None:
    plain = Citation(1, "T a", 1)
    changed = [
        Citation(1, "T a", 3), Citation(1, "T a", 1, version=2), Citation(1, "T a", 1, 1, 1999),
        Citation(1, "T a", 1, journal="x"), Citation(1, "T a", 1, language="x"),
        Citation(1, "T a", 1, doi="x"), Citation(1, "T a", 1, publication_types=["x"]),
        Citation(1, "T a", 1, publication_types=["x", "x"]),
    ]  # fmt: skip
    assert len({digest_metadata(c) for c in (plain, *changed)}) == 9
    assert digest_metadata(plain) == digest_metadata(Citation(2, "T b", 1))


def test_the_metadata_digest_is_pinned() -> None:
    # Another one here would have every row of a table stored anew.
    full = Citation(1, "T a", 1, 3, 1809, "J", "eng", "10.9/x", ["Review", "Letter"])
    assert digest_metadata(full) == -3774265359349111463
