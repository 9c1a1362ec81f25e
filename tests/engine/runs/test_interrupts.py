"""Ctrl-C and SIGTERM, in and out of a shielded block."""

import os
import signal
import threading

import pytest

from engine.runs.interrupts import Interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_interrupts(number: int) -> None:
    with pytest.raises(KeyboardInterrupt), Interrupts():
        os.kill(os.getpid(), number)
        signal.pause()


def test_a_shielded_block_ends_first() -> None:
    ended = False
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts, interrupts.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        ended = True
    assert ended


def test_handlers_are_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interrupts():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_outside_the_main_thread_it_does_nothing() -> None:
    faults: list[BaseException] = []

    def work() -> None:
        try:
            with Interrupts() as interrupts, interrupts.deferred():
                pass
        except BaseException as e:
            faults.append(e)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert faults == []


def test_a_signal_that_is_repeated_does_not_interrupt_the_last_commit() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            steps.append("wound up")
            with interrupts.deferred():
                for number in (signal.SIGTERM, signal.SIGINT):
                    os.kill(os.getpid(), number)
                steps.append("committed")
            steps.append("recorded")
    assert steps == ["wound up", "committed", "recorded"]


def test_a_second_ctrl_c_ends_what_winds_up() -> None:
    with pytest.raises(KeyboardInterrupt) as second, Interrupts():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
    assert isinstance(second.value.__context__, KeyboardInterrupt)
