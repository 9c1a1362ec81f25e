"""What is remembered of an engine from one of its lives to the next."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from engine.steps.losses import MAX_LOSSES, Losses, Watcher
from schemas.errors import EngineLost

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture
def pool() -> Iterator[str]:
    name = uuid4().hex
    yield name
    Watcher(name).forget()


LIVES: list[Losses] = []


def start(pool: str | None) -> Losses:
    """The engine starts, for the first time or after it was lost with all that it had noted."""
    while LIVES:
        LIVES.pop()._writer.shutdown()
    losses = Losses(pool)
    LIVES.append(losses)
    losses.start()
    return losses


def test_losses_with_nothing_finished_are_bounded(pool: str) -> None:
    for _ in range(MAX_LOSSES + 1):
        losses = start(pool)
        losses.take("7 to 9")
        losses.say("no memory")
    with pytest.raises(
        EngineLost, match=r"lost 4 times in a row .*: no memory; it had PMID 7 to 9"
    ):
        start(pool)


def test_losses_between_which_something_is_finished_are_not(pool: str) -> None:
    for number in range(5 * MAX_LOSSES):
        losses = start(pool)
        losses.take(str(number))
        losses.finish(str(number), 1)
    for _ in range(MAX_LOSSES):
        start(pool)
    with pytest.raises(EngineLost, match="its process was killed"):
        start(pool)


def test_what_was_in_hand_is_known_and_what_was_finished_forgotten(pool: str) -> None:
    first = start(pool)
    assert (first.take("1 to 16"), first.take("17 to 32")) == (0, 0)
    first.finish("1 to 16", 16)
    second = start(pool)
    assert (second.take("1 to 16"), second.take("17 to 32")) == (0, 1)
    assert start(pool).take("17 to 32") == 2


def test_only_what_was_alone_is_suspect(pool: str) -> None:
    first = start(pool)
    with first.alone("5"):
        pass
    first.alone("6").__enter__()  # it never comes out
    again = start(pool)
    assert (again.suspicion("5"), again.suspicion("6")) == (0, 1)
    again.alone("7").__enter__()
    last = start(pool)
    assert (last.suspicion("6"), last.suspicion("7")) == (1, 1)


def test_the_driver_hears_of_each_loss_once(pool: str) -> None:
    watcher = Watcher(pool)
    first = start(pool)
    assert list(watcher.news()) == []
    first.say("it hung")
    start(pool)
    (line,) = watcher.news()
    assert "lost (once so far)" in line and line.endswith(": it hung")
    assert list(watcher.news()) == []
    watcher.forget()
    assert start(pool).take("x") == 0 and list(watcher.news()) == []


def test_without_a_pool_nothing_is_remembered() -> None:
    for _ in range(3 * MAX_LOSSES):
        assert start(None).take("1") == 0
