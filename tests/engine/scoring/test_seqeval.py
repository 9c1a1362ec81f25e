"""Tags as conlleval reads them: held against seqeval, which others wrote, to the last digit."""

import io
import itertools
import random
import warnings
from collections.abc import Iterable, Sequence

import pytest
from seqeval.metrics import classification_report, f1_score
from seqeval.metrics.sequence_labeling import get_entities, precision_recall_fscore_support

from engine.corpora.formats.iob import read_iob
from engine.corpora.formats.texts import AnnotatedText
from engine.scoring.scores import Counts, Tally
from schemas.spans import TypedSpan

TYPES = ("disease", "gene", "a-b")
TAGS = ["O", *(f"{prefix}-{kind}" for prefix in "BIES" for kind in TYPES)]
Sentences = list[list[str]]

HAND_MADE: list[tuple[list[str], list[tuple[int, int, str]]]] = [
    ([], []),
    (["O"], []),
    (["I-gene"], [(0, 1, "gene")]),
    (["O", "I-gene", "I-gene", "O"], [(1, 3, "gene")]),  # I after O begins, as in IOB1
    (["I-gene", "I-disease"], [(0, 1, "gene"), (1, 2, "disease")]),
    (["B-gene", "B-gene"], [(0, 1, "gene"), (1, 2, "gene")]),
    (["I-gene", "B-gene", "I-gene"], [(0, 1, "gene"), (1, 3, "gene")]),  # IOB1
    (["B-gene", "I-disease", "I-gene"], [(0, 1, "gene"), (1, 2, "disease"), (2, 3, "gene")]),
    (["S-gene", "S-gene"], [(0, 1, "gene"), (1, 2, "gene")]),
    (["B-gene", "I-gene", "E-gene"], [(0, 3, "gene")]),
    (["B-gene", "E-gene", "E-gene"], [(0, 2, "gene"), (2, 3, "gene")]),
    (["B-gene", "E-gene", "I-gene"], [(0, 2, "gene"), (2, 3, "gene")]),
    (["S-gene", "I-gene"], [(0, 1, "gene"), (1, 2, "gene")]),
    (["S-gene", "E-gene"], [(0, 1, "gene"), (1, 2, "gene")]),
    (["O", "E-gene"], [(1, 2, "gene")]),
    (["B-gene", "E-disease"], [(0, 1, "gene"), (1, 2, "disease")]),
    (["B-a-b", "I-a-b"], [(0, 2, "a-b")]),
]


def read(tags: Sequence[str]) -> list[TypedSpan]:
    """The mentions of one sentence, in code points: every token is one of them and a space."""
    lines = "".join(f"t\t{tag}\n" for tag in tags)
    found = list(read_iob(io.BytesIO(lines.encode()), "x"))
    if not tags:
        assert found == []
        return []
    (sentence,) = found
    assert isinstance(sentence, AnnotatedText) and not sentence.faults
    return sentence.mentions


def in_code_points(chunks: Iterable[tuple[str, int, int]]) -> list[TypedSpan]:
    """seqeval's chunks: type, first token, last token."""
    return [TypedSpan(2 * start, 2 * end + 1, kind) for kind, start, end in chunks]


@pytest.mark.parametrize(("tags", "expected"), HAND_MADE, ids=lambda x: " ".join(map(str, x)))
def test_mentions_of_tags(tags: list[str], expected: list[tuple[int, int, str]]) -> None:
    assert read(tags) == in_code_points((kind, start, end - 1) for start, end, kind in expected)
    assert read(tags) == in_code_points(get_entities(tags))


def test_every_short_sequence_is_read_as_seqeval_reads_it() -> None:
    tags = ["O", *(f"{prefix}-{kind}" for prefix in "BIES" for kind in "xy")]
    for length in range(5):
        for sequence in itertools.product(tags, repeat=length):
            assert read(sequence) == in_code_points(get_entities(list(sequence))), sequence


def ours(gold: Sentences, predicted: Sentences) -> dict[str | None, Counts]:
    """Exact counts by type, and of all."""
    tally = Tally()
    pairs = [[read(one), read(other)] for one, other in zip(gold, predicted, strict=True)]
    kinds = {m.entity_type for pair in pairs for side in pair for m in side}
    for i, (one, other) in enumerate(pairs):
        tally.add("c", str(i), one, other, kinds)
    rows = {row.entity_type: row.scores["exact"].counts for row in tally.rows(replicates=0)}
    return rows if None in rows else rows | {None: next(iter(rows.values()))}


def assert_agrees(gold: Sentences, predicted: Sentences) -> None:
    found = ours(gold, predicted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        p, r, f, _ = precision_recall_fscore_support(gold, predicted, average="micro")
        total = found[None]
        assert (total.precision, total.recall, total.f1) == (p, r, f)
        assert total.f1 == f1_score(gold, predicted)
        report = classification_report(gold, predicted, output_dict=True)
    by_type = {k: v for k, v in report.items() if not k.endswith(" avg")}
    assert set(by_type) == set(found) - {None} or not by_type
    for kind, scores in by_type.items():
        counts = found[kind]
        assert counts.precision == scores["precision"] and counts.recall == scores["recall"]
        assert counts.f1 == scores["f1-score"] and counts.gold == scores["support"]


def random_case(rng: random.Random) -> tuple[Sentences, Sentences]:
    """A few sentences, wild or tidy; predictions at random, or gold with some tags changed."""
    tags = rng.choice([TAGS, [t for t in TAGS if t[0] in "BIO"], ["O", "B-gene", "I-gene"]])
    calm = rng.choice([1, 4, 12])
    weights = [calm * 2 if tag == "O" else 1 for tag in tags]
    lengths = [rng.randint(1, 14) for _ in range(rng.randint(1, 5))]
    gold = [rng.choices(tags, weights, k=n) for n in lengths]
    changed = rng.choice([0.0, 0.1, 0.4, 1.0])
    predicted = [
        [rng.choices(tags, weights)[0] if rng.random() < changed else t for t in sentence]
        for sentence in gold
    ]
    return gold, predicted


@pytest.mark.parametrize("seed", range(20))
def test_scores_are_those_of_seqeval_to_the_last_digit(seed: int) -> None:
    """2,000 cases, wild tags included."""
    rng = random.Random(seed)
    for _ in range(100):
        assert_agrees(*random_case(rng))


def test_hand_made_scores_are_those_of_seqeval_too() -> None:
    """Each hand-made sequence against every other, made as long."""
    for (one, _), (other, _) in itertools.product(HAND_MADE[1:], repeat=2):
        length = max(len(one), len(other))
        assert_agrees([one + ["O"] * (length - len(one))], [other + ["O"] * (length - len(other))])


def test_tags_without_a_type_are_all_of_one() -> None:
    gold, predicted = [["B", "I", "O", "I"]], [["B", "I", "O", "O"]]
    assert ours(gold, predicted)[None].f1 == f1_score(gold, predicted) == 2 / 3
