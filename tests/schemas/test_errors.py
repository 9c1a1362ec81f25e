"""Faults, gathered so that all are told at once."""

import pytest

from schemas.errors import Faults, UsageError


def fail(error: Exception) -> None:
    raise error


def test_all_faults_are_told_at_once() -> None:
    faults = Faults()
    assert faults.attempt(lambda: 7) == 7
    assert faults.attempt(lambda: fail(UsageError("no checkpoint"))) is None
    assert faults.attempt(lambda: fail(ValueError("no such type"))) is None
    faults.add("no target")
    with pytest.raises(UsageError, match=r"(?s)^no checkpoint\nno such type\nno target$"):
        faults.raise_any()


def test_what_is_no_fault_of_the_user_is_raised_at_once() -> None:
    with pytest.raises(KeyError):
        Faults().attempt(lambda: fail(KeyError("a bug")))


def test_without_faults_nothing_is_raised() -> None:
    faults = Faults()
    found = [faults.attempt(lambda n=n: n) for n in (1, 2)]
    faults.raise_any()
    assert found == [1, 2]
