"""Completions to rows of the annotations table."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.checkpoints.load import Checkpoint
from engine.checkpoints.tokenizer import PromptTokenizer
from engine.codecs.marks import Marked
from engine.steps.align import Alignment, align_mentions
from engine.steps.finish import FINISHED_SCHEMA, finish
from engine.steps.generate import GENERATED_SCHEMA
from schemas.citation import digest_text
from schemas.spans import Span

PLAIN, MARKER = math.log(0.2), math.log(0.9)

Answer = tuple[Span, str, str | Exception]
"""What part of the text was asked about, for which type, and what came back: the completion as
text, or the error in its place."""
Row = dict[str, Any]
MakeRow = Callable[..., Row]


@pytest.fixture(scope="session")
def make_row(tokenizer: PromptTokenizer) -> MakeRow:
    """Makes a row of GENERATED_SCHEMA, as nano would have filled it; ``<mark>`` in an answer stands
    for the marker of the type asked for. The tokens of a marker have the log-probability MARKER,
    all others PLAIN, which is lower."""

    def complete(name: str, answer: str | Exception) -> Row:
        if isinstance(answer, Exception):
            return {"error": str(answer)}
        ids = tokenizer.encode_template(answer.replace("mark>", f"{name}>"))
        markers = tokenizer.encode_template(f"<{name}></{name}>")
        logprobs = [MARKER if i in markers else PLAIN for i in ids]
        return {"token_ids": ids, "logprobs": logprobs, "finish": "stop"}

    def make(
        text: str,
        answers: Sequence[Answer] = (),
        sentences: Sequence[Span] | None = None,
        error: str | None = None,
        pmid: int = 1,
    ) -> Row:
        if sentences is None:
            sentences = sorted({unit for unit, _, _ in answers})
        return {
            "pmid": pmid,
            "version": 1,
            "text": text,
            "title_length": 0,
            "text_digest": digest_text(text),
            "source": "a.xml",
            "pub_year": 2024,
            "sentences": [{"start": s.start, "end": s.end} for s in sentences],
            "error": error,
            "prompts": [
                {"start": unit.start, "end": unit.end, "entity_types": [name], "max_tokens": 99}
                for unit, name, _ in answers
            ],
            "completions": [complete(name, answer) for _, name, answer in answers],
            "engine": "node-1",
        }

    return make


def finished(*rows: Row, store_text: bool = True) -> list[Row]:
    batch = pa.Table.from_pylist(list(rows), schema=GENERATED_SCHEMA)
    table = finish(batch, "nano", "tags", "annotator-1", "run-1", store_text)
    assert table.schema == FINISHED_SCHEMA
    return table.to_pylist()


def surfaces(row: Row) -> list[tuple[str, str]]:
    return [(m["text"], m["entity_type"]) for m in row["mentions"]]


TEXT = "😀 Gout. Uric acid and gout: 😀 URAT1."
TITLE, ABSTRACT = Span(0, 7), Span(8, len(TEXT))


def test_mentions_are_placed_in_the_text_and_ordered(make_row: MakeRow) -> None:
    (row,) = finished(
        make_row(
            TEXT,
            [
                (ABSTRACT, "gene", "Uric acid and gout: 😀 <mark>URAT1</mark>."),
                (ABSTRACT, "disease", "Uric acid and <mark>gout</mark> : 😀 URAT1."),
                (ABSTRACT, "chemical", "<mark>Uric acid</mark> and gout: 😀 URAT1."),
                (ABSTRACT, "acid", "<mark>Uric acid</mark> and gout: 😀 URAT1."),
                (ABSTRACT, "cause", "<mark>Uric acid and gout</mark>: 😀 URAT1."),
                (TITLE, "disease", "😀 <mark>Gout</mark>."),
            ],
        )
    )
    found = [(*surface, m["start"], m["end"], m["grade"], m["sentence"], m["identifier"])
             for surface, m in zip(surfaces(row), row["mentions"], strict=True)]  # fmt: skip
    assert found == [
        ("Gout", "disease", 2, 6, "exact", 0, None),
        ("Uric acid", "acid", 8, 17, "exact", 1, None),
        ("Uric acid", "chemical", 8, 17, "exact", 1, None),
        ("Uric acid and gout", "cause", 8, 26, "exact", 1, None),
        ("gout", "disease", 22, 26, "repaired", 1, None),
        ("URAT1", "gene", 30, 35, "exact", 1, None),
    ]
    assert (row["status"], row["error"], row["prompt_count"]) == ("ok", None, 6)


CHUNKS = ["Uric ", "acid", " and", " gout", ": ", "😀", " URAT1", "."]


@given(
    wild=st.lists(st.sampled_from(["<mark>", "</mark>", "x", *CHUNKS])).map("".join),
    marked=st.sets(st.sampled_from(CHUNKS)),
)
def test_every_mention_is_what_stands_at_its_span(
    make_row: MakeRow, wild: str, marked: set[str]
) -> None:
    echo = "".join(f"<mark>{c}</mark>" if c in marked else c for c in CHUNKS)
    (row,) = finished(make_row(TEXT, [(ABSTRACT, "gene", wild), (ABSTRACT, "disease", echo)]))
    for mention in row["mentions"]:
        assert mention["text"] == TEXT[mention["start"] : mention["end"]]
    found = [text for text, name in surfaces(row) if name == "disease"]
    assert found == [c.strip() for c in CHUNKS if c in marked]


def test_the_score_is_the_lowest_probability_of_the_marker_tokens(make_row: MakeRow) -> None:
    row = make_row("Gout, flu.", [(Span(0, 10), "disease", "<mark>Gout</mark>, <mark>flu</mark>.")])
    logprobs = row["completions"][0]["logprobs"]
    markers = [i for i, value in enumerate(logprobs) if value == MARKER]
    for place, probability in zip(markers, (0.9, 0.6, 0.7, 0.8), strict=True):
        logprobs[place] = math.log(probability)
    (done,) = finished(row)
    assert [m["score"] for m in done["mentions"]] == pytest.approx([0.6, 0.7])


def test_a_marker_whose_probability_is_not_a_number_is_no_mention(make_row: MakeRow) -> None:
    unit = Span(0, 10)
    answers: list[Answer] = [
        (unit, "disease", "<mark>Gout</mark>, flu."), (unit, "chemical", "Gout, <mark>flu</mark>.")
    ]  # fmt: skip
    row = make_row("Gout, flu.", answers)
    logprobs = row["completions"][0]["logprobs"]
    logprobs[logprobs.index(MARKER)] = float("nan")
    (done,) = finished(row)
    assert [m["text"] for m in done["mentions"]] == ["flu"]
    assert done["status"] == "partial"
    assert "the model gives a marker a probability that is not a number" in done["error"]


def test_markers_of_plain_tokens_are_scored_by_all_of_them(
    make_row: MakeRow, tokenizer: PromptTokenizer
) -> None:
    row = make_row("a", [(Span(0, 1), "disease", "a")])
    (encoding,) = tokenizer.encode_texts(["<disease>a</disease>"])
    ids, inner = encoding.ids, encoding.offsets.index((9, 10))
    logprobs = [-0.1] * len(ids)
    logprobs[inner] = -9.0  # the mention's own token does not count
    logprobs[1] = -0.5
    row["completions"] = [{"token_ids": ids, "logprobs": logprobs, "finish": "stop"}]
    (done,) = finished(row)
    assert [m["score"] for m in done["mentions"]] == pytest.approx([math.exp(-0.5)])


def test_a_failed_prompt_takes_nothing_else_with_it(make_row: MakeRow) -> None:
    answers: list[Answer] = [
        (TITLE, "disease", "😀 <mark>Gout</mark>."),
        (TITLE, "gene", TimeoutError("TimeoutError: late")),
        (TITLE, "chemical", "😀 Gout."),
    ]
    neighbours = [
        make_row("flu", [(Span(0, 3), "disease", "<mark>flu</mark>")], pmid=pmid) for pmid in (3, 2)
    ]
    first, partial, last = finished(neighbours[0], make_row(TEXT, answers), neighbours[1])
    assert partial["status"] == "partial"
    assert partial["error"] == "generate: TimeoutError: late (1 of 3 prompts failed)"
    assert surfaces(partial) == [("Gout", "disease")]
    for row, pmid in ((first, 3), (last, 2)):
        assert (row["pmid"], row["status"], row["error"]) == (pmid, "ok", None)
        assert surfaces(row) == [("flu", "disease")]


def test_a_citation_whose_prompts_all_failed_is_failed(make_row: MakeRow) -> None:
    failure = RuntimeError("RuntimeError: no memory")
    (row,) = finished(make_row(TEXT, [(TITLE, t, failure) for t in ("disease", "gene")]))
    assert (row["status"], row["mentions"]) == ("failed", [])
    assert row["error"] == "generate: RuntimeError: no memory (2 of 2 prompts failed)"


def test_a_citation_that_gave_no_prompts_is_failed(make_row: MakeRow) -> None:
    (row,) = finished(make_row(TEXT, error="prompt: ValueError: bad"))
    assert (row["status"], row["error"]) == ("failed", "prompt: ValueError: bad")


def test_a_citation_without_text_is_empty(make_row: MakeRow) -> None:
    (row,) = finished(make_row(""))
    assert (row["status"], row["error"], row["mentions"]) == ("empty", None, [])


def test_without_the_text_mentions_are_the_same(make_row: MakeRow) -> None:
    row = make_row(TEXT, [(TITLE, "disease", "😀 <mark>Gout</mark>.")])
    (kept,), (bare,) = finished(row), finished(row, store_text=False)
    assert (kept["text"], bare["text"]) == (TEXT, None)
    assert bare["text_digest"] == digest_text(TEXT)
    assert bare["mentions"] == kept["mentions"] != []
    assert bare["status"] == "ok"


def test_an_aligner_that_raises_costs_its_prompt_alone(
    make_row: MakeRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_on_title(source: str, marked: Marked, truncated: bool) -> Alignment:
        if source == "😀 Gout.":
            raise IndexError("off the end")
        return align_mentions(source, marked, truncated)

    monkeypatch.setattr("engine.steps.finish.align_mentions", fail_on_title)
    echo = "Uric acid and <mark>gout</mark>: 😀 URAT1."
    row, neighbour = finished(
        make_row(TEXT, [(TITLE, "disease", "😀 Gout."), (ABSTRACT, "disease", echo)]),
        make_row("flu", [(Span(0, 3), "disease", "<mark>flu</mark>")]),
    )
    assert row["status"] == "partial"
    assert row["error"] == "align: IndexError: off the end (1 of 2 prompts failed)"
    assert surfaces(row) == [("gout", "disease")]
    assert neighbour["status"] == "ok"


def test_an_aligner_that_misplaces_stores_nothing(
    make_row: MakeRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    def misplace(source: str, marked: Marked, truncated: bool) -> Alignment:
        (placed,) = align_mentions(source, marked, truncated).placed
        return Alignment([type(placed)(placed.mark, Span(2, 99), placed.grade)], [])

    monkeypatch.setattr("engine.steps.finish.align_mentions", misplace)
    (row,) = finished(make_row(TEXT, [(TITLE, "disease", "😀 <mark>Gout</mark>.")]))
    assert (row["status"], row["mentions"]) == ("failed", [])
    assert "align: ValueError: span (2, 99) does not hold its mention" in row["error"]


def test_marks_without_a_place_are_kept_with_their_reason(make_row: MakeRow) -> None:
    row = make_row(
        TEXT,
        [
            (TITLE, "disease", "😀 <mark>Goat</mark>."),
            (TITLE, "gene", "😀 <mark>Gout</mark>.</mark>"),
            (TITLE, "chemical", "😀 <mark>Gou"),
        ],
    )
    row["completions"][2]["finish"] = "length"
    (done,) = finished(row)
    assert done["unplaced"] == [
        {"reason": "altered", "text": "Goat"},
        {"reason": "unopened", "text": None},
        {"reason": "truncated", "text": None},
    ]
    assert surfaces(done) == [("Gout", "gene")]
    assert done["status"] == "partial"  # for the last of them


LIST = "Genes: ATM, MDM2, TP53."


@pytest.mark.parametrize(
    ("completion", "kept"),
    [
        ("Genes: <mark>ATM</mark>, <mark>MDM2</mark>, <mark>TP", ["ATM", "MDM2"]),
        ("Genes: <mark>ATM</mark>, <mark>MDM2</mark>, <mark>TP53", ["ATM", "MDM2"]),
        ("Genes: <mark>ATM</mark>, <mark>MDM2</mark>, <mark>TP53</mark>", ["ATM", "MDM2", "TP53"]),
        ("Genes: <mark>ATM</mark>", ["ATM"]),
        ("Genes: ATM,", []),
        ("", []),
    ],
)
def test_a_completion_cut_off_by_its_limit_is_partial(
    make_row: MakeRow, completion: str, kept: list[str]
) -> None:
    row = make_row(LIST, [(Span(0, len(LIST)), "gene", completion)])
    row["completions"][0]["finish"] = "length"
    (done,) = finished(row)
    assert [text for text, _ in surfaces(done)] == kept
    assert done["status"] == "partial"
    assert done["error"] == "generate: cut off by the token limit of 99 (1 of 1 prompts failed)"
    (failure,) = done["failures"]
    assert failure["completion"].replace("gene>", "mark>") == completion
    assert (failure["stage"], failure["start"], failure["end"]) == ("generate", 0, len(LIST))


@pytest.mark.parametrize("more", ["", " Genes: ATM, MDM2, TP53. Genes: ATM"])
def test_a_completion_that_reaches_its_limit_with_all_of_the_text_is_whole(
    make_row: MakeRow, more: str
) -> None:
    completion = "Genes: <mark>ATM</mark>, MDM2, TP53."
    row = make_row(LIST, [(Span(0, len(LIST)), "gene", completion + more)])
    row["completions"][0]["finish"] = "length"
    (done,) = finished(row)
    assert (done["status"], done["error"], surfaces(done)) == ("ok", None, [("ATM", "gene")])


def test_cut_off_beside_failed_is_partial(make_row: MakeRow) -> None:
    error = RuntimeError("RuntimeError: no memory")
    row = make_row(TEXT, [(TITLE, "disease", error), (ABSTRACT, "gene", "Uric")])
    row["completions"][1]["finish"] = "length"
    (done,) = finished(row)
    assert done["status"] == "partial" and "(2 of 2 prompts failed)" in done["error"]


def test_a_source_with_a_literal_marker_is_never_misread(make_row: MakeRow) -> None:
    text = "A <disease>flu</disease> tag."
    (row,) = finished(make_row(text, [(Span(0, len(text)), "disease", text)]))
    assert (row["mentions"], row["unplaced"]) == ([], [{"reason": "unreadable", "text": None}])


def test_the_columns_of_a_citation_come_through(make_row: MakeRow, nano: Checkpoint) -> None:
    row = make_row(TEXT, [(TITLE, "disease", "😀 Gout.")], sentences=[TITLE, ABSTRACT])
    (done,) = finished(row)
    same = ("pmid", "version", "text_digest", "sentences", "source", "pub_year", "engine")
    assert [done[n] for n in same] == [row[n] for n in same]
    assert (done["annotator"], done["run_id"]) == ("annotator-1", "run-1")
    assert done["annotated_at"].tzinfo is not None
