"""What a run's figures are made of."""

import pytest

from engine.runs.figures import Figures


def test_an_engine_is_busy_while_any_of_its_batches_is_with_it() -> None:
    figures = Figures(busy={"a": [(0, 4), (1, 5), (9, 10)], "b": [(0, 10)]})
    assert figures.busy_share() == pytest.approx((6 / 10 + 1) / 2)
    assert figures.generating_seconds() == 10


def test_without_batches_there_is_nothing_to_say() -> None:
    assert Figures().busy_share() is None and Figures().generating_seconds() == 0
