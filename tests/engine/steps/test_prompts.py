"""Sentences and entity types to prompts."""

import math
import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Encoding, Tokenizer

from engine.checkpoints.load import Checkpoint
from engine.checkpoints.tokenizer import PromptTokenizer
from engine.codecs import CODECS
from engine.steps.prompts import Prompt, Prompter
from schemas.errors import UsageError
from schemas.spans import Span, TypedSpan
from schemas.task import Decoding, EntityType, Task

GENE = EntityType(definition="A gene or its product.")


def task(template: str = "<s><gene>{text}<sep>", **settings: object) -> Task:
    return Task.model_validate({"entity_types": {"gene": GENE}, "template": template, **settings})


def whole(text: str) -> list[Span]:
    return [Span(0, len(text))]


def covered(prompts: Sequence[Prompt]) -> set[int]:
    return {place for p in prompts for place in range(*p.unit)}


def solid(text: str) -> set[int]:
    return {i for i, c in enumerate(text) if not c.isspace()}


def test_the_prompt_form_of_nano(nano: Checkpoint, tokenizer: PromptTokenizer) -> None:
    text = "Gout. No flu <sep>"
    prompter = Prompter(nano.manifest.task, tokenizer, nano.context_tokens)
    prompts = prompter.make_prompts(text, [Span(0, 5), Span(6, 18)])
    ids = {t: Tokenizer.from_file(f"{nano.path}/tokenizer.json").token_to_id(t) for t in SPECIAL}
    expected = []
    for unit in (Span(0, 5), Span(6, 18)):
        plain = tokenizer.encode_texts([text[unit.start : unit.end]])[0].ids
        limit = math.ceil(1.5 * len(plain)) + 32
        names = ("disease", "chemical", "gene")
        asked = [ids["<s>"], *(ids[f"<{name}>"] for name in names)]
        expected.append(Prompt(unit, names, [*asked, *plain, ids["<sep>"]], limit))
    assert prompts == expected


SPECIAL = ("<s>", "<disease>", "<chemical>", "<gene>", "<sep>")


@given(st.text(min_size=1, max_size=20))
def test_what_prompts_share_comes_first_and_is_the_same_ids(
    tokenizer: PromptTokenizer, text: str
) -> None:
    before = "Mark each {type}: {definition}\nSentence:"
    prompter = Prompter(task(before + "{text}\nAnswer:"), tokenizer, 1024)
    (prompt,) = prompter.make_prompts(text, whole(text))
    shared = tokenizer.encode_template("Mark each gene: A gene or its product.\nSentence:")
    after = tokenizer.encode_template("\nAnswer:")
    assert prompt.token_ids[: len(shared)] == shared
    assert prompt.token_ids[-len(after) :] == after


@settings(max_examples=50)
@given(
    text=st.lists(st.sampled_from(["BRCA1 ", "; ", "😀", "e\u0301", "x" * 40, " ", ", a"])).map(
        "".join
    ),
    unit=st.sampled_from(["sentence", "passage"]),
    limit=st.integers(8, 40),
    ratio=st.floats(0.1, 4),
    extra=st.integers(0, 50),
    context=st.integers(100, 300),
    cuts=st.sets(st.integers(0, 200)),
)
def test_prompts_fit_the_context_and_cover_the_text(
    tokenizer: PromptTokenizer,
    text: str,
    unit: str,
    limit: int,
    ratio: float,
    extra: int,
    context: int,
    cuts: set[int],
) -> None:
    decoding = Decoding(temperature=0, max_tokens_per_text_token=ratio, max_tokens_extra=extra)
    prompter = Prompter(
        task(unit=unit, max_text_tokens=limit, decoding=decoding), tokenizer, context
    )
    ends = sorted({0, len(text), *(c for c in cuts if c < len(text))})
    sentences = [Span(a, b) for a, b in pairwise(ends)]
    prompts = prompter.make_prompts(text, sentences)
    for prompt in prompts:
        assert len(prompt.token_ids) + prompt.max_tokens <= context
        assert len(prompt.token_ids) - 3 <= limit  # <s> <gene> <sep>
    assert solid(text) <= covered(prompts)
    places = [end for p in prompts for end in p.unit]
    assert places == sorted(places)


@given(
    ratio=st.sampled_from([0.1, 0.5, 1.3, 1.5, 4]),
    extra=st.integers(0, 20),
    context=st.integers(90, 200),
)
def test_the_context_is_used_and_never_exceeded(
    tokenizer: PromptTokenizer, ratio: float, extra: int, context: int
) -> None:
    text = "a " * 400  # a token each: pieces are as long as they may be
    types = {name: {"definition": "<s>" * n} for name, n in (("gene", 20), ("disease", 3))}
    decoding = {"max_tokens_per_text_token": ratio, "max_tokens_extra": extra}
    asked = task(
        "{definition}{text}", entity_types=types, decoding=decoding, max_text_tokens=10_000
    )
    prompts = Prompter(asked, tokenizer, context).make_prompts(text, whole(text))
    longest = max(len(p.token_ids) + p.max_tokens for p in prompts)
    assert context - 2 - ratio < longest <= context


ELEMENTS = "Fe, Cu, Zn, Mn, Co, Ni, Se, Mo, Al, Ag, Cd, Hg, Pb, As, B, C, N, O, F, P, S, K, V, I"


@pytest.mark.parametrize(
    ("codec", "kind"), [("mark", "gene"), ("tags", "gene"), ("tags", "chemical or element")]
)
@pytest.mark.parametrize(
    "names",
    [[f"{a}{b}{n}" for a in "AB" for b in "CDEFG" for n in range(8)], ELEMENTS.split(", ") * 4],
    ids=["genes", "elements"],
)
def test_a_list_of_mentions_is_not_cut_off(
    tokenizer: PromptTokenizer, codec: str, kind: str, names: list[str]
) -> None:
    text = ", ".join(names) + "."
    ends = [len(", ".join(names[: i + 1])) for i in range(len(names))]
    spans = [TypedSpan(end - len(n), end, kind) for n, end in zip(names, ends, strict=True)]
    asked = task("{type}{text}", entity_types={kind: GENE}, codec=codec, max_text_tokens=4096)
    (prompt,) = Prompter(asked, tokenizer, 128_000).make_prompts(text, whole(text))
    target = CODECS[codec].encode(text, spans)
    assert len(tokenizer.encode_template(target)) < prompt.max_tokens


def test_the_limit_counts_the_tokens_of_the_markers(tokenizer: PromptTokenizer) -> None:
    text = "a " * 99 + "a"
    limits = [
        Prompter(task(codec=codec, **more), tokenizer, 128_000)
        .make_prompts(text, whole(text))[0]
        .max_tokens
        for codec, more in [
            ("tags", {}),  # <gene> and </gene> are tokens of nano's
            ("mark", {}),  # <mark> is three tokens, </mark> four
            ("mark", {"decoding": {"max_tokens_per_text_token": 1.5}}),
        ]
    ]
    assert limits == [250 + 32, 500 + 32, 150 + 32]


def test_the_longest_prompt_and_completion_are_known(tokenizer: PromptTokenizer) -> None:
    decoding = {"max_tokens_per_text_token": 2, "max_tokens_extra": 10}
    asked = task(decoding=decoding, max_text_tokens=50)
    prompter = Prompter(asked, tokenizer, 128_000)
    assert prompter.context_tokens == 3 + 50 + 2 * 50 + 10
    text = "a " * 400
    prompts = prompter.make_prompts(text, whole(text))
    longest = max(len(p.token_ids) + p.max_tokens for p in prompts)
    assert longest == prompter.context_tokens
    # Where the checkpoint has less, the text is what gives way.
    assert Prompter(asked, tokenizer, 100).context_tokens <= 100


def test_a_long_sentence_is_cut_after_a_clause(tokenizer: PromptTokenizer) -> None:
    text = "and then we saw one thing; then we saw quite another thing and it was all right"
    prompts = Prompter(task(max_text_tokens=14), tokenizer, 1024).make_prompts(text, whole(text))
    pieces = [text[p.unit.start : p.unit.end] for p in prompts]
    assert pieces[0] == "and then we saw one thing;"
    assert all(set(piece.split()) <= set(text.split()) for piece in pieces)


def test_a_clause_is_left_alone_where_it_would_make_a_short_piece(
    tokenizer: PromptTokenizer,
) -> None:
    text = "we saw; " + "and then we saw one thing " * 3
    prompts = Prompter(task(max_text_tokens=14), tokenizer, 1024).make_prompts(text, whole(text))
    assert text[prompts[0].unit.start : prompts[0].unit.end].startswith("we saw; and then we saw")


class CountingTokenizer(PromptTokenizer):
    """Knows how many characters it was asked to encode."""

    characters = 0

    def encode_texts(self, texts: Sequence[str]) -> list[Encoding]:
        self.characters += sum(map(len, texts))
        return super().encode_texts(texts)


@pytest.mark.parametrize(
    "alphabet", ["ACGT", "\u4e00\u4e8c\u4e09"], ids=["a sequence", "without spaces by its script"]
)
def test_a_text_without_a_space_takes_linear_work(nano: Checkpoint, alphabet: str) -> None:
    text = "".join(random.Random(1).choices(alphabet, k=200_000))
    counting = CountingTokenizer(nano.path)
    prompts = Prompter(task(max_text_tokens=230), counting, 1024).make_prompts(text, whole(text))
    assert counting.characters <= 4 * len(text)
    assert max(len(p.token_ids) for p in prompts) <= 230 + 3
    assert "".join(text[p.unit.start : p.unit.end] for p in prompts) == text


def test_a_passage_joins_whole_sentences_while_they_fit(tokenizer: PromptTokenizer) -> None:
    text = "It is gout. It is flu. It is not. " + "a b c d " * 3
    sentences = [Span(0, 11), Span(12, 22), Span(23, 33), Span(34, 57)]
    prompter = Prompter(task(unit="passage", max_text_tokens=15), tokenizer, 1024)
    prompts = prompter.make_prompts(text, sentences)
    assert [p.unit for p in prompts] == [Span(0, 33), Span(34, 57)]
    joined = tokenizer.encode_texts([text[:33]])[0].ids
    assert prompts[0].token_ids[2:-1] == joined


def test_without_sentences_there_are_no_prompts(tokenizer: PromptTokenizer) -> None:
    assert Prompter(task(), tokenizer, 1024).make_prompts("", []) == []


def test_a_template_that_leaves_no_room_is_refused(tokenizer: PromptTokenizer) -> None:
    with pytest.raises(UsageError, match="60 of 64 tokens of context, which leaves 0 for text"):
        Prompter(task("<s>" * 60 + "{text}"), tokenizer, 64)
    decoding = {"max_tokens_per_text_token": 1, "max_tokens_extra": 10}
    asked = task("<s>" * 20 + "{text}", decoding=decoding)
    with pytest.raises(UsageError, match="leaves 7 for text; expected at least 8"):
        Prompter(asked, tokenizer, 20 + 10 + 1 + 15)
    assert Prompter(asked, tokenizer, 20 + 10 + 1 + 16).max_text_tokens == 8


def test_a_passage_does_not_join_the_title_with_the_abstract(tokenizer: PromptTokenizer) -> None:
    text = "One. Two. Three. Four."
    sentences = [Span(0, 4), Span(5, 9), Span(10, 16), Span(17, 22)]
    prompter = Prompter(task(unit="passage"), tokenizer, 1024)
    units = {p.unit for p in prompter.make_prompts(text, sentences, title_length=9)}
    assert units == {Span(0, 9), Span(10, 22)}
