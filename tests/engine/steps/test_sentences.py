"""A citation's text to sentences."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.sentences import CORPORA, count_cut, read_passages
from engine.steps.sentences import split_sentences
from schemas.citation import lay_out_text
from schemas.spans import Span


def surfaces(text: str, title_length: int) -> list[str]:
    return [text[s.start : s.end] for s in split_sentences(text, title_length)]


def test_sentences_are_given_by_their_offsets() -> None:
    text = "Gout in men. It is rare. Is it (i.e. flu) so?"
    assert split_sentences(text, 12) == [Span(0, 12), Span(13, 24), Span(25, 45)]


def test_an_empty_line_is_no_sentence() -> None:
    assert surfaces("It is gout.\n\nIt is rare. ", 25) == ["It is gout.", "It is rare."]


@pytest.mark.parametrize(
    ("title", "abstract", "expected"),
    [
        ("Gout", "in men is rare.", ["Gout", "in men is rare."]),
        ("Gout by Dr.", "Smith was seen.", ["Gout by Dr.", "Smith was seen."]),
        ("", "It is gout. It is rare.", ["It is gout.", "It is rare."]),
        ("It is gout.", "", ["It is gout."]),
        ("", "", []),
    ],
    ids=["no full stop", "abbreviation", "no title", "no abstract", "no text"],
)
def test_no_sentence_crosses_from_title_to_abstract(
    title: str, abstract: str, expected: list[str]
) -> None:
    assert surfaces(*lay_out_text(title, [(None, abstract)])) == expected


@pytest.mark.parametrize("character", ["é", "中", "😀", "e\u0301", "👩🏽‍🔬"])
def test_characters_of_many_bytes_do_not_shift_offsets(character: str) -> None:
    title, sentences = f"On {character}.", [f"It is {character}.", f"Was {character} {character}?"]
    text, title_length = lay_out_text(title, [(None, " ".join(sentences))])
    assert surfaces(text, title_length) == [title, *sentences]


# What sentence splitters look for comes often.
PARTS = st.lists(
    st.sampled_from(
        [". ", "! ", "? ", "Dr. ", "i.e. ", '." ', "A", "b ", "1. ", "(c) ", "😀", "。"]
    )
    | st.text(max_size=3)
).map("".join)


@given(PARTS, PARTS)
def test_every_solid_character_is_in_one_sentence(title: str, abstract: str) -> None:
    text, title_length = lay_out_text(title, [(None, abstract)])
    sentences = split_sentences(text, title_length)
    places = [place for s in sentences for place in range(s.start, s.end)]
    assert places == sorted(set(places))
    assert set(places) >= {i for i, c in enumerate(text) if not c.isspace()}
    assert title_length not in places  # the space between title and abstract
    for sentence in surfaces(text, title_length):
        assert sentence
        assert sentence == sentence.strip()


@pytest.mark.skipif(not CORPORA.is_dir(), reason="no PubTator corpora in ../shared/data/pubtator")
def test_few_gold_mentions_are_cut() -> None:
    mentions = cut = 0
    for passage in read_passages(CORPORA):
        mentions += len(passage.mentions)
        cut += count_cut(passage, split_sentences(passage.text, passage.title_length))
    assert mentions > 90_000
    assert cut <= 0.005 * mentions
