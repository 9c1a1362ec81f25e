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
        EngineLost, match=r"lost 5 times in a row .*: no memory; it had PMID 7 to 9"
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
    assert not first.take("1 to 16") and not first.take("17 to 32")
    first.finish("1 to 16", 16)
    second = start(pool)
    assert not second.take("1 to 16") and not second.take("17 to 32")
    second.finish("1 to 16", 16)
    third = start(pool)
    assert third.take("17 to 32") and not third.take("1 to 16")


def test_after_two_losses_in_a_row_every_batch_is_suspect_until_one_citation_is_finished(
    pool: str,
) -> None:
    for batch in ("1 to 16", "17 to 32"):
        assert not start(pool).take(batch)
    third = start(pool)
    assert third.take("33 to 48") and third.take("49 to 64")
    with third.alone("33"):
        pass
    assert not third.take("65 to 80")


def test_suspects_come_last_and_the_others_in_another_order_after_each_loss(pool: str) -> None:
    citations = [str(i) for i in range(16)]
    first = start(pool).in_order(citations)
    losses = start(pool)
    losses.alone(citations[first[0]]).__enter__()
    again = start(pool).in_order(citations)
    assert sorted(first) == sorted(again) == list(range(16))
    assert again[-1] == first[0] and again[:-1] != first[1:]


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
    assert not start(pool).take("x") and list(watcher.news()) == []


def test_without_a_pool_nothing_is_remembered() -> None:
    for _ in range(3 * MAX_LOSSES):
        assert not start(None).take("1")
