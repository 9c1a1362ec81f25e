"""One run of a mirror: the target is made to hold the files that NLM's index lists.

Enters: NLM's server, a target. Leaves: whole files in the target, each with its .md5, and what the
run did. Left to others: each part of the work, to one other module of this wing.

A file is settled, and nothing is asked about it, if the target has it at the size that it had when
its md5 agreed, and the index's line about it and its md5 is still the same. If the line is another
or there is none, the file's md5 is fetched. If the size is unknown or another, the file is hashed.
Every file that turns out to be missing or different is fetched. Files that the index does not list,
such as those of earlier years, are left as they are.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from typing import TypeVar

from engine.mirror.client import Client, Page
from engine.mirror.known import KnownFile, KnownFiles
from engine.mirror.listing import Listed, folder_url, parse_listing, parse_md5
from engine.mirror.patience import FetchError
from engine.mirror.published import save_last
from engine.mirror.target import Target
from engine.mirror.threads import work_through
from schemas.configs.options import MirrorKind, MirrorOptions
from schemas.errors import JobError, UsageError

logger = logging.getLogger(__name__)

T = TypeVar("T")

_ATTEMPTS = 3
"""A file fails after so many complete downloads that did not have the published md5; the index
likewise, after so many pages that were cut short or no index."""
_MAX_GIVEN_UP = 5
"""After so many failures in a row by the server's fault, it is not asked for the other files."""
_LOG_SECONDS = 60.0


@dataclass(slots=True)
class Mirrored:
    """What one run did.

    ``listed`` counts the files in the index, of which ``last`` is the last. ``settled`` of them
    were there as published. ``to_fetch`` is the number of files that the run had to fetch, and
    ``to_fetch_bytes`` their size as rounded in the index, None where it gives no sizes.
    ``fetched`` names those that came, ``failed`` those that did not, with the cause. ``bytes`` is
    what came over the network for files."""

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
    """One run over one set of files, a ``kind`` of FOLDERS, from the URL ``source`` to ``target``.

    ``report`` is called a few times a second, in the caller's thread, with ``result`` so far.
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
        self._bytes_lock = threading.Lock()
        self._given_up_in_a_row = 0
        self._logged = time.monotonic()
        self.result = Mirrored()

    def run(
        self, *, limit: int | None = None, verify: bool = False, dry_run: bool = False
    ) -> Mirrored:
        """Fetch the files that are missing or have changed, by number; at most ``limit`` of them.

        ``verify`` hashes every file again; ``dry_run`` writes nothing. A file that cannot be
        fetched is recorded in ``failed``, and the run goes on with the others. Ctrl-C ends the run
        with ``interrupted``.

        Raises:
            UsageError: if there is no such index, or the target cannot be used.
            JobError: if the server gives no file any more, or the target cannot be written.
        """
        start = time.monotonic()
        result = self.result
        try:
            listing = self._list()
            result.listed = len(listing)
            result.last = listing[-1].name if listing else None
            with nullcontext() if dry_run else self._target.locked(f"mirror-{self._kind}"):
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
        if listing and not dry_run:
            save_last(self._target, self._kind, listing[-1].name)
        known_files = KnownFiles(self._target, self._kind)

        def check(file: Listed) -> KnownFile | None:
            return self._check(file, sizes, known_files.files.get(file.name), verify, dry_run)

        to_fetch = [f for f in listing if f.name not in sizes]
        to_check = []
        for file in listing:
            if file.name in sizes:
                if _is_settled(file, sizes, known_files.files.get(file.name)) and not verify:
                    result.settled += 1
                else:
                    to_check.append(file)
        try:
            for file, known in self._outcomes(check, to_check):
                if known is None:
                    to_fetch.append(file)
                else:
                    result.settled += 1
                    known_files.add(file.name, known)
            order = {f.name: i for i, f in enumerate(listing)}
            to_fetch = sorted(to_fetch, key=lambda f: order[f.name])[:limit]
            result.to_fetch = len(to_fetch)
            rounded = [f.bytes for f in to_fetch if f.bytes is not None]
            result.to_fetch_bytes = sum(rounded) if len(rounded) == len(to_fetch) else None
            if dry_run:
                return
            for file, known in self._outcomes(self._fetch, to_fetch):
                result.fetched.append(file.name)
                known_files.add(file.name, known)
                known_files.save()
        finally:
            if not dry_run:
                known_files.save()

    def _list(self) -> list[Listed]:
        """The files in the index, which is fetched again if it came cut short."""
        for attempt in range(_ATTEMPTS):
            try:
                self._client.pace.wait(attempt * self._client.backoff_seconds)
                page = self._client.get(self._url)
                listing = parse_listing(page.content, page.url)
            except FetchError as e:
                if e.status in (404, 410):
                    raise UsageError(f"{self._url}: {e}; expected NLM's folder there") from e
                raise JobError(f"{self._url}: {e}") from e
            except ValueError as e:
                fault = e
            else:
                # Files are asked for where the index came from, after redirects.
                self._url = page.url.rsplit("/", 1)[0] + "/"
                # There may be no updates: just after a new baseline there are none yet.
                if listing or self._kind != "baseline":
                    return listing
                fault = ValueError("lists no file of NLM's")
        raise JobError(f"{self._url}: {fault}")

    def _check(
        self,
        file: Listed,
        sizes: dict[str, int],
        known: KnownFile | None,
        verify: bool,
        dry_run: bool,
    ) -> KnownFile | None:
        """A file of the target held against its published md5; None if it is to be fetched.

        Raises:
            FetchError: if its .md5 cannot be had, or cannot be read.
            OSError: of the target.
        """
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
        return KnownFile(size, md5, file.line)

    def _fetch(self, file: Listed) -> KnownFile:
        """Bring a file and its .md5 into the target.

        Raises:
            FetchError: if they cannot be had, or do not agree.
            OSError: of the target.
        """
        fault = ""
        for attempt in range(_ATTEMPTS):
            self._client.pace.wait(attempt * self._client.backoff_seconds)
            try:
                page, md5 = self._published(file)
            except ValueError as e:
                fault = str(e)
                continue
            part = self._target.part(file.name, md5)
            if self._client.download(self._url + file.name, part, md5, self._add_bytes):
                size = part.stat().st_size
                self._target.put(part, file.name)
                self._target.write(f"{file.name}.md5", page.content)
                return KnownFile(size, md5, file.line)
            part.unlink(missing_ok=True)
            fault = f"what came does not have the published md5 {md5}"
        raise FetchError(f"{fault} ({_ATTEMPTS} times)")

    def _published(self, file: Listed) -> tuple[Page, str]:
        """A file's ``.md5`` as NLM has it now, and the digest in it.

        Raises:
            FetchError: if it cannot be had.
            ValueError: if it does not hold one digest of this file.
        """
        try:
            page = self._client.get(f"{self._url}{file.name}.md5")
        except FetchError as e:
            raise FetchError(f"its .md5: {e}", e.by_server) from e
        return page, parse_md5(page.content, file.name)

    def _outcomes(
        self, work: Callable[[Listed], T], files: list[Listed]
    ) -> Iterator[tuple[Listed, T]]:
        """Files with what ``work`` returned for them, as they end; those that failed are recorded
        and left out.

        Raises:
            JobError: if too many have failed in a row by the server's fault.
            OSError: of the target.
        """
        outcomes = work_through(
            files, work, threads=self._connections, tick=self._tick, stop=self._client.pace.stop
        )
        with closing(outcomes):
            for file, outcome in outcomes:
                if isinstance(outcome, Exception):
                    self._record_failure(file, outcome)
                else:
                    self._given_up_in_a_row = 0
                    yield file, outcome

    def _record_failure(self, file: Listed, fault: Exception) -> None:
        if not isinstance(fault, FetchError):
            raise fault
        self.result.failed[file.name] = str(fault)
        logger.warning("%s: %s", file.name, fault)
        self._given_up_in_a_row = self._given_up_in_a_row + 1 if fault.by_server else 0
        if self._given_up_in_a_row >= _MAX_GIVEN_UP:
            raise JobError(
                f"{self._url}: {self._given_up_in_a_row} files in a row could not be had, the last "
                f"({file.name}): {fault}; {len(self.result.fetched)} files were fetched, the same "
                "command goes on from there"
            )

    def _add_bytes(self, received: int) -> None:
        with self._bytes_lock:  # called by several threads
            self.result.bytes += received

    def _tick(self) -> None:
        """Report, and log once a minute; called several times a second while there is work."""
        result = self.result
        self._report(result)
        if result.to_fetch and time.monotonic() - self._logged >= _LOG_SECONDS:
            self._logged = time.monotonic()
            logger.info(
                "%s of %s files fetched, %s failed, %.1f GB",
                f"{len(result.fetched):,}", f"{result.to_fetch:,}", len(result.failed),
                result.bytes / 1e9,
            )  # fmt: skip


def mirror_of(
    options: MirrorOptions, kind: MirrorKind, report: Callable[[Mirrored], None] = lambda _: None
) -> Mirror:
    """The mirror that a config describes.

    Raises:
        UsageError: if no file system knows the target's kind of URI.
    """
    client = Client(
        connections=options.connections,
        retries=options.retries,
        backoff_seconds=options.backoff_seconds,
        timeout_seconds=options.timeout_seconds,
    )
    return Mirror(
        kind,
        options.source,
        Target(options.to),
        client,
        connections=options.connections,
        report=report,
    )


def _is_settled(file: Listed, sizes: dict[str, int], known: KnownFile | None) -> bool:
    """Whether a file in the target is known to be whole and as published, without asking NLM or
    reading it."""
    return bool(
        known
        and file.line
        and known.line == file.line
        and known.size == sizes[file.name]
        and f"{file.name}.md5" in sizes
    )
