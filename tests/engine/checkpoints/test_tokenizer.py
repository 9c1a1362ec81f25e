"""Text to token ids and back."""

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from engine.checkpoints.load import Checkpoint
from engine.checkpoints.tokenizer import PromptTokenizer
from schemas.errors import UsageError

SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<sep>", "<disease>", "<gene>", "</gene>"]


@pytest.fixture(scope="module")
def library(nano: Checkpoint) -> Tokenizer:
    return Tokenizer.from_file(f"{nano.path}/tokenizer.json")


@given(st.lists(st.sampled_from(SPECIAL) | st.text(max_size=3)).map("".join))
def test_text_cannot_forge_a_special_token(
    tokenizer: PromptTokenizer, library: Tokenizer, text: str
) -> None:
    (encoding,) = tokenizer.encode_texts([text])
    assert set(encoding.ids).isdisjoint(library.get_added_tokens_decoder())


def test_special_tokens_of_a_template_are_meant(
    tokenizer: PromptTokenizer, library: Tokenizer
) -> None:
    assert tokenizer.encode_template("<s><disease>") == [1, library.token_to_id("<disease>")]
    assert tokenizer.encode_template("") == []


def test_a_tokenizer_that_opens_every_text_with_a_token_is_kept_from_it(
    nano: Checkpoint, tmp_path: Path
) -> None:
    settings = json.loads(Path(nano.path, "tokenizer.json").read_text(encoding="utf-8"))
    single = [
        {"SpecialToken": {"id": "<s>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ]
    settings["post_processor"] = {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(settings))
    assert Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode("flu").ids[0] == 1
    opening = PromptTokenizer(str(tmp_path))
    assert 1 not in opening.encode_template("flu")
    assert 1 not in opening.encode_texts(["flu"])[0].ids


@given(st.text() | st.text("é🧬👩🏽‍🔬\u0301\u200d\ufeff\ufffd \n<>a"))
@example("did n't , ( IL - 2 )  . ?")  # what transformers' clean-up of spaces would change
@example("ends in a character that stands for a damaged one: \ufffd")
@example("</s><gene>")
def test_decode_gives_back_what_was_encoded(tokenizer: PromptTokenizer, text: str) -> None:
    ids = tokenizer.encode_texts([text])[0].ids
    decoded = tokenizer.decode(ids)
    assert decoded.text == text
    assert len(decoded.ends) == len(ids)


@given(st.lists(st.integers(4, 300) | st.integers(0, 8191)))
def test_the_tokens_cover_the_text_of_any_ids(
    tokenizer: PromptTokenizer, library: Tokenizer, ids: list[int]
) -> None:
    decoded = tokenizer.decode(ids)
    assert decoded.text == library.decode(ids, skip_special_tokens=False)
    assert decoded.ends == sorted(decoded.ends)
    assert [len(decoded.ends), *decoded.ends[-1:]] == [len(ids), *[len(decoded.text)] * bool(ids)]


def test_each_token_stands_where_its_end_says(tokenizer: PromptTokenizer) -> None:
    ids = tokenizer.encode_template("T <gene>😀 flu</gene>.")
    decoded = tokenizer.decode(ids)
    starts = [0, *decoded.ends]
    pieces = [decoded.text[a:b] for a, b in zip(starts, decoded.ends, strict=False)]
    # The bytes of an emoji have their character only once the last of them is there.
    assert [p for p in pieces if p] == ["T", " ", "<gene>", "😀", " flu", "</gene>", "."]


def test_offsets_count_code_points(tokenizer: PromptTokenizer) -> None:
    (encoding,) = tokenizer.encode_texts(["🧬🧬 flu"])
    assert (encoding.offsets[0], encoding.offsets[-1][1]) == ((0, 1), 6)


def test_an_unreadable_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UsageError, match=r"tokenizer\.json"):
        PromptTokenizer(str(tmp_path))
