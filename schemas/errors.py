"""The project's exceptions. Each message says what was found, what was expected, and where."""

import re
from collections.abc import Callable
from typing import TypeVar

from schemas.credentials import redact

T = TypeVar("T")

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class PubmarkError(Exception):
    """A fault that a person can act on; the command line prints its message without a traceback.

    The message holds no credentials, whatever URIs and errors of others it was made of.
    """

    exit_code = 1

    def __init__(self, message: str = ""):
        super().__init__(redact(message))


class UsageError(PubmarkError):
    """Wrong usage, config, source, checkpoint or target: nothing was started."""

    exit_code = 2


class JobError(PubmarkError):
    """The job failed after it had started; what was committed stays."""

    exit_code = 1


class Faults:
    """What is wrong before a job starts, gathered so that a person is told all of it at once."""

    def __init__(self) -> None:
        self._messages: list[str] = []

    def add(self, message: str) -> None:
        """Note a fault."""
        self._messages.append(message)

    def attempt(self, step: Callable[[], T]) -> T | None:
        """What a step gives; None, and its message is noted, if it raises UsageError or
        ValueError."""
        try:
            return step()
        except (UsageError, ValueError) as e:
            self.add(str(e))
            return None

    def raise_any(self) -> None:
        """Raise one UsageError with all faults, a line each, if there are any."""
        if self._messages:
            raise UsageError("\n".join(self._messages))


class EngineDied(Exception):
    """A backend's engine can serve no more prompts: the actor that holds it must be replaced."""


class EngineLost(Exception):
    """An engine was lost too often, with nothing finished in between, to be started once more."""


class DamagedSource(Exception):
    """A file that can be read no further.

    Raised by the readers after everything good before the damage was yielded. ``place`` says how
    far reading came, ``cause`` why it stopped.
    """

    def __init__(self, place: str, cause: str):
        self.place, self.cause = redact(place), redact(cause)
        super().__init__(f"{self.place}: {self.cause}")


def reason(error: BaseException) -> str:
    """What an error of another library says, in one line and without credentials: the cause may
    stand in the last line."""
    lines = (line.strip(" \t↳") for line in _COLOURS.sub("", str(error)).splitlines())
    return redact(": ".join(line.rstrip(":") for line in lines if line)) or type(error).__name__
