"""What shares something with a test split is found, in whatever form it stands."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.corpora.leaks import HeldOut, Leak, Text, remove_leaks, split_words
from schemas.examples import EXAMPLES_SCHEMA

ONE = "Serum zinc fell in eight of the patients."  # eight words
LONG = "We gave 2.5 mg/kg of the drug to 12 T-cell-deficient mice in each of two groups."


def test_words_agree_between_raw_and_tokenised() -> None:
    raw = "T-cell&lt;(TNF-α) 2.5 µg/kg: naïve ﬁbres_x"
    tokenised = "T - cell ( TNF - alpha ) 2 . 5 μg / kg : naive fibres _ x"
    words = ["t", "cell", "tnf", "a", "2", "5", "ug", "kg", "naive", "fibres", "x"]
    assert split_words(raw) == split_words(tokenised) == words


def test_greek_letters_agree_however_they_are_written() -> None:
    assert split_words("TNFΑ IFNγ Θ") == split_words(
        "TNFalpha IFN\N{GREEK SMALL LETTER GAMMA} theta"
    )
    assert split_words("TNFΑ IFNγ") == split_words("TNFa IFNg") == ["tnfa", "ifng"]


def test_pmid() -> None:
    held_out = HeldOut([Text("Gout.", 7)])
    assert held_out.shares("Something else.", 7) == Leak("pmid", "7")
    assert held_out.shares("Something else.", 8) is None
    assert held_out.shares("Gout.") is None


@pytest.mark.parametrize(
    "text",
    [
        ONE,
        "serum zinc fell in eight of the patients",
        "Before. " + ONE + " After.",
        "Of note, serum - zinc fell in eight of the patients , too .",
    ],
)
def test_a_tests_sentence_is_found_anywhere(text: str) -> None:
    held_out = HeldOut([Text(f"Zinc. We looked. {ONE} So what.", None, 5)])
    found = held_out.shares(text)
    assert found == Leak("sentence", "serum zinc fell in eight of the patients")


def test_a_sentence_of_ours_is_found_anywhere_in_a_test() -> None:
    held_out = HeldOut([Text("A line in which serum zinc fell in eight of the patients.")])
    assert held_out.shares(ONE) == Leak("sentence", "serum zinc fell in eight of the patients")
    assert held_out.shares(f"Zinc. We looked. {ONE}", None, 5) is not None
    # In neither is it a whole sentence.
    assert held_out.shares("Here serum zinc fell in eight of the patients as well.") is None


def test_a_title_is_a_sentence_of_its_own() -> None:
    title = "Serum zinc in eight of the patients of"
    held_out = HeldOut([Text(f"{title} an old clinic.", None, len(title))])
    assert held_out.shares(f"It was {title} as told.") is not None


def test_seven_words_are_no_leak() -> None:
    seven = "Serum zinc fell in eight of patients."
    assert HeldOut([Text(seven, 1)]).shares(seven) is None


def test_thirteen_words_in_a_row() -> None:
    held_out = HeldOut([Text(LONG)])
    words = split_words(LONG)
    assert held_out.shares("So " + " ".join(words[2:15]) + " too") == Leak(
        "run", " ".join(words[2:15])
    )
    assert held_out.shares("So " + " ".join(words[2:14]) + " too") is None


def test_nothing_held_out() -> None:
    assert HeldOut([]).shares(LONG, 1) is None
    assert HeldOut([Text(LONG, 1)]).shares("") is None


WORDS = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=40)


@given(WORDS, WORDS)
def test_agrees_with_plain_comparison(ours: list[str], theirs: list[str]) -> None:
    held_out = HeldOut([Text(" ".join(theirs))])
    found = held_out.shares(" ".join(ours)) is not None

    def runs(words: list[str], n: int) -> set[tuple[str, ...]]:
        return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}

    whole = {n: {tuple(w) for w in (ours, theirs) if len(w) == n} for n in range(8, 13)}
    expected = bool(runs(ours, 13) & runs(theirs, 13)) or any(
        whole[n] & runs(ours, n) & runs(theirs, n) for n in whole
    )
    assert found == expected


def example(text: str, split: str, pmid: int | None = None) -> dict[str, object]:
    return {
        "corpus": "C", "split": split, "document": text[:5], "part": 0, "pmid": pmid,
        "unit": "sentence", "form": "raw", "text": text, "title_length": None, "mentions": [],
        "annotated_types": ["disease"],
    }  # fmt: skip


def test_remove_leaks_counts_by_kind() -> None:
    test = pa.Table.from_pylist([example(LONG, "test", 5)], EXAMPLES_SCHEMA)
    train = [
        example("Gout.", "train", 5),
        example(f"In short: {LONG}", "train"),
        example("Fine.", "train", 6),
    ]
    kept, counts = remove_leaks(
        pa.Table.from_pylist(train, EXAMPLES_SCHEMA), HeldOut.from_examples(test)
    )
    assert kept["text"].to_pylist() == ["Fine."]
    assert counts == {"pmid": 1, "run": 1}
