from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from engine.checkpoints.load import load_checkpoint
from engine.checkpoints.tokenizer import load_tokenizer
from engine.training.data.encode import EncodeExamples
from engine.training.data.material import write_lexicon
from engine.training.data.sequences import ExampleEncoder
from engine.training.data.variation import CUT, cut_words, replace_names, set_apart
from schemas.configs.finetune import Optimisation, TuningStage, Variation
from schemas.examples import EXAMPLES_SCHEMA
from schemas.spans import TypedSpan

_LEXICON = {"gene": ["BRCA1", "T - cell receptor"], "disease": ["ague"]}


@st.composite
def _examples(draw: st.DrawFn) -> tuple[str, list[TypedSpan]]:
    """Texts of words and signs, and any mentions."""
    words = draw(st.lists(st.text("abcdeÉβ1-(", min_size=1, max_size=9), min_size=1, max_size=12))
    text = " ".join(words)
    mentions = set()
    for kind in draw(st.lists(st.sampled_from(["gene", "disease"]), max_size=4)):
        start = draw(st.integers(0, len(text) - 1))
        end = draw(st.integers(start + 1, len(text)))
        mentions.add(TypedSpan(start, end, kind))
    return text, sorted(mentions)


def _names(text: str, mentions: list[TypedSpan]) -> list[str]:
    return [text[m.start : m.end] for m in mentions]


@given(_examples(), st.integers(0, 9))
def test_names_are_replaced_where_they_stand_alone(
    example: tuple[str, list[TypedSpan]], seed: int
) -> None:
    text, mentions = example
    changed, moved = replace_names(text, mentions, _LEXICON, 1.0, Random(seed))
    for old, new in zip(mentions, moved, strict=True):
        name = changed[new.start : new.end]
        if any(m is not old and m.span.overlaps(old.span) for m in mentions):
            assert name == text[old.start : old.end]
        else:
            assert name in _LEXICON[old.entity_type]
    # What is no name is as it was.
    assert _outside(changed, moved) == _outside(text, mentions)


def _outside(text: str, mentions: list[TypedSpan]) -> str:
    inside = {i for m in mentions for i in range(m.start, m.end)}
    return "".join(c for i, c in enumerate(text) if i not in inside)


def test_a_name_gets_the_same_name_everywhere() -> None:
    text = "TP53 binds TP53 in flu."
    mentions = [TypedSpan(0, 4, "gene"), TypedSpan(11, 15, "gene"), TypedSpan(19, 22, "disease")]
    changed, _ = replace_names(text, mentions, {"gene": ["A", "B", "C"]}, 1.0, Random(3))
    assert changed[0] == changed[8]
    assert changed.endswith(" in flu.")  # no other disease is known
    assert replace_names(text, mentions, _LEXICON, 0.0, Random(0)) == (text, mentions)


@given(_examples())
def test_words_and_signs_are_set_apart(example: tuple[str, list[TypedSpan]]) -> None:
    text, mentions = example
    changed, moved = set_apart(text, mentions)
    assert changed.replace(" ", "") == text.replace(" ", "")
    names = [n for n in _names(text, mentions) if n.strip()]
    for old, new in zip(names, _names(changed, moved), strict=True):
        assert new.replace(" ", "") == old.replace(" ", "") and new.strip() == new
    assert set_apart("T-cell (2.5%)", [])[0] == "T - cell ( 2 . 5 % )"


@given(_examples(), st.integers(0, 9))
def test_words_are_cut_in_prompt_and_answer_alike(
    example: tuple[str, list[TypedSpan]], seed: int
) -> None:
    nano = load_checkpoint("nano")
    task, tokenizer = nano.manifest.task, load_tokenizer(nano.tokenizer_path)
    text, mentions = example
    cut, moved = cut_words(text, mentions, 1.0, Random(seed))
    assert cut.replace(CUT, "") == text
    assert [n.replace(CUT, "") for n in _names(cut, moved)] == _names(text, mentions)
    encoder = ExampleEncoder(task, tokenizer, nano.stop_token_ids[0], 0.0)
    mentions_, asked = moved[:1], ["gene", "disease"]
    whole = encoder.encode(text, mentions[:1], asked)
    cut_up = encoder.encode(cut, mentions_, asked)
    assert tokenizer.decode(cut_up.ids).text == tokenizer.decode(whole.ids).text


def test_a_cut_makes_other_tokens_and_an_opening_marker_weighs_more() -> None:
    nano = load_checkpoint("nano")
    task, tokenizer = nano.manifest.task, load_tokenizer(nano.tokenizer_path)
    encoder = ExampleEncoder(task, tokenizer, nano.stop_token_ids[0], 0.0, 4.0)
    mention = TypedSpan(4, 12, "chemical")
    sequence = encoder.encode("The morphine.", [mention], ["chemical"])
    opening = tokenizer.encode_template("<chemical>")[0]
    answer = sequence.ids.index(tokenizer.encode_template("<sep>")[0]) + 1
    heavy = [i for i, w in enumerate(sequence.weights) if w > 1]
    assert heavy == [sequence.ids.index(opening, answer)]
    assert sequence.weights[heavy[0]] == 4.0
    cut = encoder.encode(f"The mor{CUT}phine.", [TypedSpan(4, 13, "chemical")], ["chemical"])
    assert tokenizer.decode(cut.ids).text == tokenizer.decode(sequence.ids).text
    assert cut.ids != sequence.ids


def _row(corpus: str, document: str, name: str, entity_type: str = "chemical") -> dict[str, object]:
    mention = {"start": 4, "end": 4 + len(name), "text": name, "entity_type": entity_type}
    values = dict.fromkeys(EXAMPLES_SCHEMA.names)
    return values | {
        "corpus": corpus, "document": document, "part": 0, "form": "raw", "split": "train",
        "unit": "sentence",
        "text": f"The {name}-induced something.", "mentions": [mention],
        "annotated_types": [entity_type],
    }  # fmt: skip


def test_every_epoch_varies_the_examples_and_repeats_itself(tmp_path: Path) -> None:
    nano = load_checkpoint("nano")
    tokenizer = load_tokenizer(nano.tokenizer_path)
    names = ["morphine", "acetic acid", "Na+"]
    kinds = ["chemical", "Chemical", "CHEMICAL"]  # the same to us
    rows = [_row("A", str(i), *row) for i, row in enumerate(zip(names, kinds, strict=True))]
    table = pa.Table.from_pylist([*rows, _row("Left out", "9", "lead")], EXAMPLES_SCHEMA)
    (tmp_path / "examples").mkdir()
    pq.write_table(table, tmp_path / "examples" / "0.parquet")
    weights = {"Left out": 0.0}
    write_lexicon(str(tmp_path / "examples"), weights, tmp_path / "lexicon.json")

    def texts(epoch: int, **variation: float) -> list[str]:
        tuning = TuningStage(
            examples=["x"], weights=weights, optimisation=Optimisation(steps=1),
            variation=Variation(**variation),
        )  # fmt: skip
        encode = EncodeExamples(
            nano.manifest.task, nano.tokenizer_path, nano.stop_token_ids[0], tuning, 0,
            str(tmp_path / "lexicon.json"),
        )  # fmt: skip
        found = encode(table, epoch)["ids"].to_pylist()
        return [tokenizer.decode(ids).text.partition("<sep>")[2] for ids in found]

    plain = [f"The<chemical> {name}</chemical>-induced something.</s>" for name in names]
    assert texts(0) == plain
    epochs = [texts(n, replace=1.0) for n in range(8)]
    assert epochs == [texts(n, replace=1.0) for n in range(8)]
    assert {text for epoch in epochs for text in epoch} == set(plain)  # never "lead"
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert texts(0, set_apart=1.0)[2] == "The<chemical> Na +</chemical> - induced something .</s>"
