"""How long to wait between attempts at a URL, when to give up, and how threads wait together.

Enters: the errors of failed attempts. Leaves: a pause, or FetchError. Left to others: the requests.

urllib3's Retry counts the attempts. Its sleeping is not used: a pause here ends at once when the
client is told to stop, and a ``Retry-After`` that one thread was given holds for all of them.
"""

import logging
import threading
import time

import requests
from urllib3.exceptions import InvalidHeader, MaxRetryError
from urllib3.util import Retry

from schemas.credentials import redact

logger = logging.getLogger(__name__)

# A server that asks for a longer pause gets it: the URL is given up, for another run to fetch.
_MAX_RETRY_AFTER_SECONDS = 600.0
_FINAL = (ValueError, requests.TooManyRedirects)  # ValueError: a URL that cannot be


class FetchError(Exception):
    """A URL was given up. ``by_server``: other URLs of the same server would probably fail too.
    ``status`` is the HTTP status, if that was the cause."""

    def __init__(self, cause: str, by_server: bool = False, status: int | None = None):
        super().__init__(redact(cause))
        self.by_server = by_server
        self.status = status


class Stopped(Exception):
    """The client was told to stop."""


class RetryableError(Exception):
    """An answer after which another attempt is worth while. ``retry_after`` is the server's header
    of that name, as it came."""

    def __init__(self, cause: str, retry_after: str | None = None):
        super().__init__(cause)
        self.retry_after = retry_after


class Pace:
    """What all threads of one client share: the time before which none sends, and the stop."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._not_before = 0.0

    def stop(self) -> None:
        """Make every thread raise Stopped at its next read or wait."""
        self._stopped.set()

    def check(self) -> None:
        """Go on.

        Raises:
            Stopped: if :meth:`stop` was called.
        """
        if self._stopped.is_set():
            raise Stopped

    def wait(self, seconds: float = 0.0) -> None:
        """Wait so many seconds, and longer if a server has asked for a longer pause.

        Raises:
            Stopped: as soon as :meth:`stop` is called.
        """
        until = time.monotonic() + seconds
        while True:
            left = max(until, self._not_before) - time.monotonic()
            if self._stopped.wait(max(0.0, left)):
                raise Stopped
            if left <= 0:
                return

    def hold(self, seconds: float) -> None:
        """Have all threads send nothing for so many seconds, as a server asked."""
        self._not_before = max(self._not_before, time.monotonic() + seconds)


class Patience:
    """The attempts that are left for one URL."""

    def __init__(self, pace: Pace, url: str, retry: Retry):
        self._pace = pace
        self._url = url
        self._retry = retry

    def spend(self, cause: Exception) -> None:
        """Use up an attempt, which failed by ``cause``, and wait until the next one may begin.

        Raises:
            FetchError: if no attempt is left, another would fail too, or the server asks for a
                pause of more than ten minutes.
            Stopped: if the client is told to stop meanwhile.
        """
        message = _innermost_message(cause)
        if isinstance(cause, _FINAL) or "CERTIFICATE_VERIFY_FAILED" in message:
            raise FetchError(message, by_server=True) from cause
        asked = self._seconds_asked(cause)
        if asked > _MAX_RETRY_AFTER_SECONDS:
            raise FetchError(f"{message}, to be tried again in {asked:,.0f} s", True) from cause
        try:
            self._retry = self._retry.increment("GET", self._url, error=cause)
        except MaxRetryError:
            attempts = len(self._retry.history) + 1
            raise FetchError(f"{message} ({attempts} attempts)", by_server=True) from cause
        self._pace.hold(asked)
        seconds = self._retry.get_backoff_time()
        logger.info("%s; again in %.0f s", redact(f"{self._url}: {message}"), max(asked, seconds))
        self._pace.wait(seconds)

    def _seconds_asked(self, cause: Exception) -> float:
        """How long the server asked to wait; 0 if it did not, or not in a way to be understood."""
        header = cause.retry_after if isinstance(cause, RetryableError) else None
        try:
            return self._retry.parse_retry_after(header) if header else 0.0
        except InvalidHeader:
            return 0.0


def _innermost_message(cause: Exception) -> str:
    """The message of the first error, without those that requests and urllib3 put around it."""
    inside = [e for e in (getattr(cause, "reason", None), *cause.args) if isinstance(e, Exception)]
    return _innermost_message(inside[0]) if inside else str(cause)
