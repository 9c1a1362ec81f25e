"""Which sequences go together, and how they lie in tensors."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.training.data.batches import Layout, MicroBatch, lay_out, make_steps, share
from engine.training.data.sequences import TokenSequence

PAD = 3
LAYOUTS: tuple[Layout, ...] = ("packed", "bucketed")


@st.composite
def any_sequences(draw: st.DrawFn, least: int = 1) -> list[TokenSequence]:
    """Ids that never repeat, so that each token is known wherever it lies; any weights."""
    sizes = draw(st.lists(st.integers(1, 40), min_size=least, max_size=25))
    found, first = [], 10
    for size in sizes:
        weights = draw(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=size, max_size=size))
        found.append(TokenSequence(list(range(first, first + size)), weights))
        first += size + 1
    return found


def taught(sequences: Sequence[TokenSequence]) -> list[tuple[int, int, float]]:
    """Each token, the one to predict after it, and with what weight; those without are left out."""
    return sorted(
        (s.ids[i], s.ids[i + 1], s.weights[i + 1])
        for s in sequences
        for i in range(len(s.ids) - 1)
        if s.weights[i + 1]
    )


def taught_by(micro: MicroBatch) -> list[tuple[int, int, float]]:
    """The same, read from tensors."""
    ids = micro.input_ids[:, micro.columns]
    places = micro.weights.nonzero().tolist()
    return [
        (int(ids[r, c]), int(micro.targets[r, c]), float(micro.weights[r, c])) for r, c in places
    ]


@settings(max_examples=40)
@given(any_sequences(), st.integers(1, 100), st.sampled_from(LAYOUTS))
def test_every_layout_teaches_every_token_once(
    sequences: list[TokenSequence], micro_tokens: int, layout: Layout
) -> None:
    micros = list(lay_out(sequences, micro_tokens, layout, PAD))
    assert sorted(t for m in micros for t in taught_by(m)) == taught(sequences)
    assert sum(m.tokens for m in micros) == sum(len(s.ids) for s in sequences)
    longest = max(len(s.ids) for s in sequences)
    for m in micros:
        rows, width = m.input_ids.shape
        assert rows * width <= max(micro_tokens, longest) + 7, "padding counts; eights are full"
        assert m.tokens == int((m.input_ids != PAD).sum())


@settings(max_examples=40)
@given(any_sequences(), st.integers(1, 100))
def test_positions_begin_anew_with_every_sequence(
    sequences: list[TokenSequence], micro_tokens: int
) -> None:
    place = {token: i for s in sequences for i, token in enumerate(s.ids)}
    for m in lay_out(sequences, micro_tokens, "packed", PAD):
        if m.position_ids is None:
            assert [place[t] for t in m.input_ids[0].tolist() if t != PAD] == list(range(m.tokens))
            continue
        for token, position in zip(
            m.input_ids.flatten().tolist(), m.position_ids.flatten().tolist(), strict=True
        ):
            assert token == PAD or position == place[token]
        padding = m.position_ids[0, m.tokens :].tolist()
        assert padding == list(range(len(padding))), "padding is a sequence by itself"


def test_packed_rows_are_close_to_full() -> None:
    sequences = [TokenSequence([9] * n, [1.0] * n) for n in range(5, 105)]
    micros = list(lay_out(sequences, 512, "packed", PAD))
    assert len(micros) == 11, "5,450 tokens; 10.6 rows if nothing were lost"


def test_a_bucket_holds_neighbours_in_length() -> None:
    sequences = [TokenSequence([9] * n, [1.0] * n) for n in (30, 8, 16, 31, 7, 15)]
    shapes = [tuple(m.input_ids.shape) for m in lay_out(sequences, 64, "bucketed", PAD)]
    assert shapes == [(2, 32), (4, 16)]


@settings(max_examples=40)
@given(any_sequences(), st.integers(1, 200), st.integers(1, 30), st.integers())
def test_steps_hold_each_sequence_once_and_are_the_same_again(
    sequences: list[TokenSequence], batch_tokens: int, window: int, seed: int
) -> None:
    steps = list(make_steps(iter(sequences), batch_tokens, window, seed))
    assert sorted(s.ids for step in steps for s in step) == [s.ids for s in sequences]
    assert steps == list(make_steps(iter(sequences), batch_tokens, window, seed))
    for step in steps[:-1]:
        sizes = [len(s.ids) for s in step]
        assert sum(sizes) >= batch_tokens > sum(sizes[:-1])


def test_steps_are_made_as_they_are_asked_for() -> None:
    def endless() -> Any:
        while True:
            yield TokenSequence([1] * 10, [1.0] * 10)

    assert [len(s) for s in islice(make_steps(endless(), 100, 50, 0), 3)] == [10, 10, 10]


@settings(max_examples=40)
@given(any_sequences(), st.integers(1, 6))
def test_workers_parts_are_the_whole(step: list[TokenSequence], workers: int) -> None:
    parts = [share(step, rank, workers) for rank in range(workers)]
    assert all(parts), "workers wait for each other: none may have nothing to do"
    assert taught([s for part in parts for s in part]) == taught(step)
    spare = max(workers - len(step), 0)
    assert sum(len(part) for part in parts) == len(step) + spare
    sizes = [sum(len(s.ids) for s in part) for part in parts]
    assert max(sizes) - min(sizes) <= max(len(s.ids) for s in step), "about the same work"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_sequence_longer_than_a_pass_goes_alone(layout: Layout) -> None:
    sequences = [TokenSequence([9] * n, [1.0] * n) for n in (100, 10, 12)]
    micros = list(lay_out(sequences, 32, layout, PAD))
    assert tuple(micros[0].input_ids.shape) == (1, 104)
    assert sum(m.tokens for m in micros) == 122
