"""What a run's figures are made of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.runs.figures import Busy, Figures


def test_an_engine_is_busy_while_any_of_its_batches_is_with_it() -> None:
    figures = Figures(busy={"a": busy((0, 4), (1, 5), (9, 10)), "b": busy((0, 10))})
    assert figures.busy_share() == pytest.approx((6 / 10 + 1) / 2)
    assert figures.generating_seconds() == 10


def test_without_batches_there_is_nothing_to_say() -> None:
    assert Figures().busy_share() is None and Figures().generating_seconds() == 0


def busy(*spans: tuple[float, float]) -> Busy:
    made = Busy()
    for span in spans:
        made.add(*span)
    return made


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), min_size=1))
def test_what_batches_cover_is_counted_once_in_any_order(batches: list[tuple[int, int]]) -> None:
    made = busy(*((start, start + length) for start, length in batches))
    covered = {second for start, length in batches for second in range(start, start + length)}
    assert made.seconds == len(covered)
    assert made.first == min(s for s, _ in batches)
    assert made.last == max(s + n for s, n in batches)


def test_of_a_week_of_pauses_little_is_kept() -> None:
    made = busy(*((10 * i, 10 * i + 5) for i in range(20_000)))
    assert made.seconds == 100_000 and len(made._spans) < 3000
    made.add(3, 199_999)  # came very late
    assert 100_000 < made.seconds < 111_000
