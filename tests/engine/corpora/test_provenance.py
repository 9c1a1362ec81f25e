"""Which document a line was taken from."""

from engine.corpora.provenance import find_documents

DOCUMENTS = [
    (1, "Gout in men. It was given to twelve T-cell-deficient mice. Results"),
    (2, "Flu in women. It was given to no one at all. Conclusion of ours"),
    (3, "Gout in men. Nothing else of any note was seen."),
]


def test_words_are_compared() -> None:
    lines = ["It was given to twelve T - cell - deficient mice .", "IT WAS GIVEN TO NO ONE"]
    assert find_documents(lines, DOCUMENTS) == [{1}, {2}]


def test_lines_in_doubt_are_from_one_of_their_neighbours() -> None:
    lines = [
        "It was given to twelve T - cell - deficient mice .",
        "Results",  # too short to say, but only one neighbour has it
        "Flu in",
        "mangled",  # between two documents
        "It was given to no one at all .",
        "mangled as well",
        "Conclusion of ours",
        "mangled again and again",
        "Nothing else of any note was seen .",
    ]
    assert find_documents(lines, DOCUMENTS) == [
        {1}, {1}, {2}, {1, 2}, {2}, {2, 3}, {2}, {2, 3}, {3},
    ]  # fmt: skip


def test_at_the_ends_there_is_one_neighbour() -> None:
    lines = ["mangled", "Nothing else of any note", "mangled"]
    assert find_documents(lines, DOCUMENTS) == [{3}, {3}, {3}]


def test_nothing_is_found() -> None:
    assert find_documents(["of something else altogether", ""], DOCUMENTS) == [set(), set()]
    assert find_documents(["a b c d"], []) == [set()]
    assert find_documents([], DOCUMENTS) == []


def test_a_document_of_several_texts() -> None:
    texts = [(1, "One two three four."), (1, "Five six seven eight nine.")]
    assert find_documents(["five six seven eight nine"], texts) == [{1}]
