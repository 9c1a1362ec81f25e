"""A polite HTTP client whose downloads continue where they broke off.

Enters: URLs. Leaves: small bodies, and part files whose md5 agrees. Left to others: what is
fetched, and what becomes of a part file. The session itself retries nothing, so that a connection
refused, a 503 and a body that ends early are counted against the same number of attempts.
"""

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from engine.mirror.part import Part
from engine.mirror.patience import FetchError, Pace, Patience, RetryableError

_RETRIED = {408, 425, 429, 500, 502, 503, 504}
_CONNECT_SECONDS = 15.0
_MAX_BACKOFF_SECONDS = 60.0
_MIN_BYTES_PER_SECOND = 1000
# A download that has got so much further is worth more attempts: they are counted from 0 again.
_PROGRESS_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Page:
    """A response's body, and the URL that it came from, after redirects."""

    url: str
    content: bytes


class Client:
    """One HTTP session, for ``connections`` threads.

    ``retries`` is how many attempts at a URL in a row may bring nothing before it is given up,
    ``backoff_seconds`` the unit of the growing pauses between them. A connection on which no byte
    comes for ``timeout_seconds`` has failed. Proxies, certificates and ``.netrc`` are taken from
    the environment, as requests does.
    """

    def __init__(
        self,
        *,
        connections: int,
        retries: int = 8,
        backoff_seconds: float = 1.0,
        timeout_seconds: float = 60.0,
    ):
        self._retry = Retry(
            total=retries,
            backoff_factor=backoff_seconds,
            backoff_max=_MAX_BACKOFF_SECONDS,
            backoff_jitter=backoff_seconds,
            retry_after_max=sys.maxsize,
        )
        self.pace = Pace()
        self.backoff_seconds = backoff_seconds
        self._timeout_seconds = timeout_seconds
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=connections, max_retries=0))
        # identity: the body is then the file's own bytes, of which a Range can ask for the rest.
        self._session.headers.update({"User-Agent": _user_agent(), "Accept-Encoding": "identity"})

    def get(self, url: str) -> Page:
        """Fetch a small body whole.

        Raises:
            FetchError: if the server does not have it, or no attempt is left.
            Stopped: if :attr:`pace` is stopped meanwhile.
        """
        patience = Patience(self.pace, url, self._retry)
        while True:
            self.pace.wait()
            try:
                with self._open(url) as response:
                    return Page(response.url, response.content)
            except (RetryableError, requests.RequestException, HTTPError) as e:
                patience.spend(e)

    def download(self, url: str, path: Path, md5: str, received: Callable[[int], None]) -> bool:
        """Fetch a URL into the part file at ``path``, from its end on, until its digest is ``md5``.

        ``received`` is called with the number of bytes of each piece. Returns False, with an empty
        part file, if the whole body came and has another digest. The digest alone decides that,
        whatever length the server announced.

        Raises:
            FetchError: if the server does not have it, or no attempt is left.
            OSError: if the part file cannot be written.
            Stopped: if :attr:`pace` is stopped meanwhile.
        """
        patience = Patience(self.pace, url, self._retry)
        with Part(path) as part:
            size_then = part.size  # when attempts were last counted from 0
            while part.md5 != md5:
                self.pace.wait()
                try:
                    self._append_rest(url, part, received)
                except (RetryableError, requests.RequestException, HTTPError) as e:
                    if part.md5 == md5:
                        break
                    if part.size >= size_then + _PROGRESS_BYTES:
                        size_then = part.size
                        patience = Patience(self.pace, url, self._retry)
                    patience.spend(e)
                else:
                    if part.md5 != md5:
                        part.restart()
                        return False
            part.sync()
        return True

    def _append_rest(self, url: str, part: Part, received: Callable[[int], None]) -> None:
        """Ask once for what the part lacks, and append what comes; from the start where the server
        cannot send the rest alone."""
        headers = {}
        if part.size:
            headers["Range"] = f"bytes={part.size}-"
            if part.validator:
                headers["If-Range"] = part.validator
        with self._open(url, headers) as response:
            if response.status_code == 416:
                part.restart()
                raise RetryableError("has fewer bytes than came before")
            if response.status_code == 206:
                span = response.headers.get("Content-Range", "")
                if not re.match(rf"bytes {part.size}-", span):
                    part.restart()
                    raise RetryableError(f"sent the range {span!r} instead of the one asked for")
            elif part.size:  # 200: the server knows no ranges, or the file has changed
                part.restart()
            part.validator = _validator(response)
            since, size_then = time.monotonic(), part.size
            while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=False):
                self.pace.check()
                part.append(chunk)
                received(len(chunk))
                seconds = time.monotonic() - since
                if seconds >= self._timeout_seconds:
                    if part.size - size_then < seconds * _MIN_BYTES_PER_SECOND:
                        raise RetryableError(f"{part.size - size_then} bytes in {seconds:.0f} s")
                    since, size_then = time.monotonic(), part.size

    @contextmanager
    def _open(self, url: str, headers: dict[str, str] | None = None) -> Iterator[requests.Response]:
        """A response of status 200, 206 or 416, its body not yet read."""
        timeout = (_CONNECT_SECONDS, self._timeout_seconds)
        with self._session.get(url, headers=headers, stream=True, timeout=timeout) as response:
            status = response.status_code
            if status in _RETRIED:
                raise RetryableError(_status_line(response), response.headers.get("Retry-After"))
            if status not in (200, 206, 416):
                barred = status in (401, 403, 407)
                raise FetchError(_status_line(response), by_server=barred, status=status)
            yield response


def _validator(response: requests.Response) -> str | None:
    """The value for If-Range: a strong ETag, else the date of the last change; None if neither."""
    tag = response.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")


def _status_line(response: requests.Response) -> str:
    return f"HTTP {response.status_code} {response.reason or ''}".strip()


def _user_agent() -> str:
    try:
        return f"pubmark/{version('pubmark')} {requests.utils.default_user_agent()}"
    except PackageNotFoundError:
        return f"pubmark {requests.utils.default_user_agent()}"
