"""How long to wait for what, when to give up, and that all threads wait together.

The counting is urllib3's Retry. Its sleeping is not used: a wait here ends when told to stop, and
what one thread was told by ``Retry-After`` holds for the others too.
"""

import logging
import threading
import time

import requests
from urllib3.exceptions import InvalidHeader, MaxRetryError
from urllib3.util import Retry

logger = logging.getLogger(__name__)

# Who is asked to stay away for longer does so, and comes back in another run.
_MAX_RETRY_AFTER_SECONDS = 600.0
_FINAL = (ValueError, requests.TooManyRedirects)  # ValueError: a URL that cannot be


class FetchError(Exception):
    """A URL that was given up. ``by_server``: any other of the same server would fare likewise."""

    def __init__(self, cause: str, by_server: bool = False, status: int | None = None):
        super().__init__(cause)
        self.by_server = by_server
        self.status = status


class Stopped(Exception):
    """The client was told to stop."""


class Trouble(Exception):
    """An answer that another attempt may better."""

    def __init__(self, cause: str, retry_after: str | None = None):
        super().__init__(cause)
        self.retry_after = retry_after


class Pace:
    """What all threads of a client wait for."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._not_before = 0.0

    def stop(self) -> None:
        """End whatever other threads are at, at their next read or wait."""
        self._stopped.set()

    def check(self) -> None:
        """Raises Stopped if told to stop."""
        if self._stopped.is_set():
            raise Stopped

    def wait(self, seconds: float = 0.0) -> None:
        """Until so many seconds, and all that a server asked for, are over.

        Raises:
            Stopped: at once when told so.
        """
        until = time.monotonic() + seconds
        while True:
            left = max(until, self._not_before) - time.monotonic()
            if self._stopped.wait(max(0.0, left)):
                raise Stopped
            if left <= 0:
                return

    def hold(self, seconds: float) -> None:
        """Send nothing for so long, from any thread: a server asked for it."""
        self._not_before = max(self._not_before, time.monotonic() + seconds)


class Patience:
    """What is left of the attempts at one URL."""

    def __init__(self, pace: Pace, url: str, retry: Retry):
        self._pace = pace
        self._url = url
        self._retry = retry

    def spend(self, cause: Exception) -> None:
        """Wait for the next attempt.

        Raises:
            FetchError: if none is left, or the server asks to wait for too long.
        """
        said = _say(cause)
        if isinstance(cause, _FINAL) or "CERTIFICATE_VERIFY_FAILED" in said:
            raise FetchError(said, by_server=True) from cause
        asked = self._asked(cause)
        if asked > _MAX_RETRY_AFTER_SECONDS:
            raise FetchError(f"{said}, to be tried again in {asked:,.0f} s", True) from cause
        try:
            self._retry = self._retry.increment("GET", self._url, error=cause)
        except MaxRetryError:
            attempts = len(self._retry.history) + 1
            raise FetchError(f"{said} ({attempts} attempts)", by_server=True) from cause
        self._pace.hold(asked)
        seconds = self._retry.get_backoff_time()
        logger.info("%s: %s; again in %.0f s", self._url, said, max(asked, seconds))
        self._pace.wait(seconds)

    def _asked(self, cause: Exception) -> float:
        said = cause.retry_after if isinstance(cause, Trouble) else None
        try:
            return self._retry.parse_retry_after(said) if said else 0.0
        except InvalidHeader:
            return 0.0


def _say(cause: Exception) -> str:
    """The cause without the layers that requests and urllib3 put around it."""
    inside = [e for e in (getattr(cause, "reason", None), *cause.args) if isinstance(e, Exception)]
    return _say(inside[0]) if inside else str(cause)
