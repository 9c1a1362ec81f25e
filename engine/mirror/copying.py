"""One run of the mirror: make a target hold what NLM lists. Only this module knows all the others.

A file is settled if the target has it at the size that it had when its md5 agreed, and if the index
says the same of the file and of its md5 as it said then. If the index says something else, or
nothing, the md5 is asked for. If the size is unknown or another, the file is hashed. All other
files are fetched. Files that the index does not list, such as those of earlier years, are left as
they are.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from typing import TypeVar

from engine.mirror.client import Client, Page
from engine.mirror.known import Known, KnownFiles
from engine.mirror.listing import Listed, folder_url, parse_listing, parse_md5
from engine.mirror.patience import FetchError
from engine.mirror.target import Target
from engine.mirror.threads import work_through
from schemas.errors import JobError, UsageError

logger = logging.getLogger(__name__)

T = TypeVar("T")

_DOWNLOADS = 3
"""A file fails after so many downloads that came whole but with another md5 than published."""
_MAX_GIVEN_UP = 5
"""After so many files in a row that the server does not give, it is not asked for the rest."""
_LOG_SECONDS = 60.0


@dataclass(slots=True)
class Mirrored:
    """What one run did. ``last`` is the last file listed; ``bytes`` is what came over the
    network for files; ``to_fetch`` and ``to_fetch_bytes`` (as rounded in the index, None where it
    gives no sizes) are its plan."""

    listed: int = 0
    last: str | None = None
    fetched: list[str] = field(default_factory=list)
    settled: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    bytes: int = 0
    seconds: float = 0.0
    to_fetch: int = 0
    to_fetch_bytes: int | None = None
    interrupted: bool = False


class Mirror:
    """One run over one set of files, ``kind`` of FOLDERS, from ``source`` to ``target``.

    ``report`` is called a few times a second, with the figures so far.
    """

    def __init__(
        self,
        kind: str,
        source: str,
        target: Target,
        client: Client,
        *,
        connections: int,
        report: Callable[[Mirrored], None] = lambda _: None,
    ):
        self._kind = kind
        self._url = folder_url(source, kind)
        self._target = target
        self._client = client
        self._connections = connections
        self._report = report
        self._counting = threading.Lock()
        self._in_a_row = 0
        self._logged = time.monotonic()
        self.result = Mirrored()

    def run(
        self, *, limit: int | None = None, verify: bool = False, dry_run: bool = False
    ) -> Mirrored:
        """Fetch what is missing or has changed, by number; at most ``limit`` files.

        ``verify`` hashes every file again; ``dry_run`` stores nothing. A file that cannot be had
        is noted, and the rest goes on. Ctrl-C ends it with ``interrupted``.

        Raises:
            UsageError: if there is no such index, or the target cannot be used.
            JobError: if the server gives nothing any more, or the target takes nothing.
        """
        start = time.monotonic()
        result = self.result
        try:
            listing = self._list()
            result.listed = len(listing)
            result.last = listing[-1].name if listing else None
            with nullcontext() if dry_run else self._target.held(f"mirror-{self._kind}"):
                self._mirror(listing, limit, verify, dry_run)
        except KeyboardInterrupt:
            result.interrupted = True
        except OSError as e:
            raise JobError(
                f"target {self._target.uri}: {e}; {len(result.fetched)} files were fetched, "
                "the same command goes on from there"
            ) from e
        finally:
            self._client.pace.stop()
            result.seconds = time.monotonic() - start
        return result

    def _mirror(
        self, listing: list[Listed], limit: int | None, verify: bool, dry_run: bool
    ) -> None:
        result = self.result
        sizes = self._target.sizes()
        state = KnownFiles(self._target, self._kind)

        def check(file: Listed) -> Known | None:
            return self._check(file, sizes, state.files.get(file.name), verify, dry_run)

        wanted = [f for f in listing if f.name not in sizes]
        unsure = []
        for file in listing:
            if file.name in sizes:
                if _is_settled(file, sizes, state.files.get(file.name)) and not verify:
                    result.settled += 1
                else:
                    unsure.append(file)
        try:
            for file, known in self._each(check, unsure):
                if known is None:
                    wanted.append(file)
                else:
                    result.settled += 1
                    state.learn(file.name, known)
            order = {f.name: i for i, f in enumerate(listing)}
            wanted = sorted(wanted, key=lambda f: order[f.name])[:limit]
            result.to_fetch = len(wanted)
            rounded = [f.bytes for f in wanted if f.bytes is not None]
            result.to_fetch_bytes = sum(rounded) if len(rounded) == len(wanted) else None
            if dry_run:
                return
            for file, known in self._each(self._fetch, wanted):
                result.fetched.append(file.name)
                state.learn(file.name, known)
                state.save()
        finally:
            if not dry_run:
                state.save()

    def _list(self) -> list[Listed]:
        """The index; fetched again where it came in part."""
        for turn in range(_DOWNLOADS):
            try:
                self._client.pace.wait(turn * self._client.backoff_seconds)
                page = self._client.get(self._url)
                listing = parse_listing(page.content, page.url)
            except FetchError as e:
                if e.status in (404, 410):
                    raise UsageError(f"{self._url}: {e}; expected NLM's folder there") from e
                raise JobError(f"{self._url}: {e}") from e
            except ValueError as e:
                fault = e
            else:
                # Files are asked for where the index was found in the end.
                self._url = page.url.rsplit("/", 1)[0] + "/"
                if listing or self._kind != "baseline":  # no updates yet: so after a new baseline
                    return listing
                fault = ValueError("lists no file of NLM's")
        raise JobError(f"{self._url}: {fault}")

    def _check(
        self,
        file: Listed,
        sizes: dict[str, int],
        known: Known | None,
        verify: bool,
        dry_run: bool,
    ) -> Known | None:
        """What is known of a file that the target has; None if it is to be fetched."""
        page = None
        if known and verify and _is_settled(file, sizes, known):
            md5 = known.md5
        else:
            try:
                page, md5 = self._published(file)
            except ValueError as e:
                raise FetchError(str(e)) from e
        size = sizes[file.name]
        trusted = known and (known.size, known.md5) == (size, md5) and not verify
        if not trusted and self._target.md5(file.name, self._client.pace.check) != md5:
            return None
        beside = f"{file.name}.md5"
        if page and not dry_run and not (trusted and beside in sizes):
            self._target.write(beside, page.content)
        return Known(size, md5, file.line)

    def _fetch(self, file: Listed) -> Known:
        fault = ""
        for turn in range(_DOWNLOADS):
            self._client.pace.wait(turn * self._client.backoff_seconds)
            try:
                page, md5 = self._published(file)
            except ValueError as e:
                fault = str(e)
                continue
            part = self._target.part(file.name, md5)
            if self._client.download(self._url + file.name, part, md5, self._count):
                size = part.stat().st_size
                self._target.put(part, file.name)
                self._target.write(f"{file.name}.md5", page.content)
                return Known(size, md5, file.line)
            part.unlink(missing_ok=True)
            fault = f"what came does not have the published md5 {md5}"
        raise FetchError(f"{fault} ({_DOWNLOADS} times)")

    def _published(self, file: Listed) -> tuple[Page, str]:
        """A file's ``.md5`` as it is upstream, and the digest in it."""
        try:
            page = self._client.get(f"{self._url}{file.name}.md5")
        except FetchError as e:
            raise FetchError(f"its .md5: {e}", e.by_server) from e
        return page, parse_md5(page.content, file.name)

    def _each(self, work: Callable[[Listed], T], files: list[Listed]) -> Iterator[tuple[Listed, T]]:
        """Files and what ``work`` gave for them; what cannot be had is noted and left out.

        Raises:
            JobError: if the server seems to be gone.
            OSError: of the target.
        """
        outcomes = work_through(
            files, work, threads=self._connections, tick=self._tick, stop=self._client.pace.stop
        )
        with closing(outcomes):
            for file, outcome in outcomes:
                if isinstance(outcome, Exception):
                    self._note(file, outcome)
                else:
                    self._in_a_row = 0
                    yield file, outcome

    def _note(self, file: Listed, fault: Exception) -> None:
        if not isinstance(fault, FetchError):
            raise fault
        self.result.failed[file.name] = str(fault)
        logger.warning("%s: %s", file.name, fault)
        self._in_a_row = self._in_a_row + 1 if fault.by_server else 0
        if self._in_a_row >= _MAX_GIVEN_UP:
            raise JobError(
                f"{self._url}: {self._in_a_row} files in a row could not be had, the last "
                f"({file.name}): {fault}; {len(self.result.fetched)} files were fetched, the same "
                "command goes on from there"
            )

    def _count(self, received: int) -> None:
        with self._counting:
            self.result.bytes += received

    def _tick(self) -> None:
        result = self.result
        self._report(result)
        if result.to_fetch and time.monotonic() - self._logged >= _LOG_SECONDS:
            self._logged = time.monotonic()
            logger.info(
                "%s of %s files fetched, %s failed, %.1f GB",
                f"{len(result.fetched):,}", f"{result.to_fetch:,}", len(result.failed),
                result.bytes / 1e9,
            )  # fmt: skip


def _is_settled(file: Listed, sizes: dict[str, int], known: Known | None) -> bool:
    """Whether a file that the target has is whole and as published, by what is known alone."""
    return bool(
        known
        and file.line
        and known.line == file.line
        and known.size == sizes[file.name]
        and f"{file.name}.md5" in sizes
    )
