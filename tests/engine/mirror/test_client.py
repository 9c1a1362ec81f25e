"""The client against a server that drops, lies, refuses and dawdles."""

import email.utils
import random
import resource
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from nlm_server import ALWAYS, Fault, Server, drop, lie, md5_of, other_range, serve, slow, status

from engine.mirror.client import Client
from engine.mirror.patience import FetchError, Stopped

BODY = random.Random(1).randbytes(300_000)
LONG = random.Random(2).randbytes(5 << 20)
PATH = "/pubmed/baseline/file"


def client(**options: Any) -> Client:
    return Client(**({"connections": 2, "retries": 3, "backoff_seconds": 0.01} | options))


class Downloads:
    """Downloads one path of a server into one part."""

    def __init__(self, server: Server, part: Path):
        self.server, self.part, self.received = server, part, 0

    def __call__(self, body: bytes, *faults: Fault | ALWAYS, md5: str = "", **options: Any) -> bool:
        self.server.put(PATH, body)
        self.server.faults[PATH] = list(faults)
        url = self.server.url + "/baseline/file"
        return client(**options).download(url, self.part, md5 or md5_of(body), self._count)

    def _count(self, n: int) -> None:
        self.received += n

    @property
    def ranges(self) -> list[str | None]:
        """What each request asked for."""
        return [r.headers.get("Range") for r in self.server.asked(PATH)]


@pytest.fixture
def download(server: Server, tmp_path: Path) -> Downloads:
    return Downloads(server, tmp_path / "part")


# Downloads


def test_a_whole_file_in_one_request(download: Downloads) -> None:
    assert download(BODY)
    assert download.part.read_bytes() == BODY and download.received == len(BODY)
    (request,) = download.server.requests
    assert request.headers["User-Agent"].startswith("pubmark/")
    assert request.headers["Accept-Encoding"] == "identity"


def test_a_body_that_ends_early_is_gone_on_with(download: Downloads) -> None:
    assert download(BODY, drop(100_000), drop(50_000))
    assert download.part.read_bytes() == BODY and download.received == len(BODY)
    assert download.ranges == [None, "bytes=100000-", "bytes=150000-"]
    tags = [r.headers.get("If-Range") for r in download.server.requests]
    assert tags == [None, f'"{md5_of(BODY)}"', f'"{md5_of(BODY)}"']


def test_a_part_of_an_earlier_run_is_gone_on_with(download: Downloads) -> None:
    download.part.write_bytes(BODY[:200_000])
    assert download(BODY)
    assert download.part.read_bytes() == BODY and download.received == 100_000
    assert download.ranges == ["bytes=200000-"]


def test_a_part_that_is_complete_asks_for_nothing(download: Downloads) -> None:
    download.part.write_bytes(BODY)
    assert download(BODY) and not download.server.requests


def test_where_there_are_no_ranges_it_begins_again(download: Downloads) -> None:
    download.server.ranges = False
    assert download(BODY, drop(100_000))
    assert download.part.read_bytes() == BODY and download.received == 100_000 + len(BODY)


def test_a_file_that_changes_between_two_attempts_is_not_mixed(download: Downloads) -> None:
    new = BODY[::-1]

    def drop_and_change(handler: Any, body: bytes) -> None:
        handler.server.put(PATH, new)
        drop(100_000)(handler, body)

    assert download(BODY, drop_and_change, md5=md5_of(new))
    assert download.part.read_bytes() == new


@pytest.mark.parametrize("before", [b"x" * 1000, BODY + b"x", b"x" * len(BODY)])
def test_a_part_of_something_else_is_found_out(download: Downloads, before: bytes) -> None:
    download.part.write_bytes(before)
    if len(before) < len(BODY):  # gone on with, found wrong at the end
        assert not download(BODY) and download.part.read_bytes() == b""
    assert download(BODY)
    assert download.part.read_bytes() == BODY


def test_a_range_that_was_not_asked_for_is_not_taken(download: Downloads) -> None:
    assert download(BODY, drop(100_000), other_range)
    assert download.part.read_bytes() == BODY


@pytest.mark.parametrize("ranges", [True, False])
def test_a_length_too_long_is_only_a_lie(download: Downloads, ranges: bool) -> None:
    download.server.ranges = ranges
    assert download(BODY, ALWAYS(lie(500)))
    assert download.part.read_bytes() == BODY and len(download.server.requests) == 1


def test_a_length_too_short_is_not_the_file(download: Downloads) -> None:
    assert not download(BODY, ALWAYS(lie(-500)))
    assert download.part.read_bytes() == b""


def test_another_digest_is_not_the_file(download: Downloads) -> None:
    assert not download(BODY, md5=md5_of(b"other"))
    assert download.part.read_bytes() == b"" and len(download.server.requests) == 1


def test_attempts_that_bring_nothing_come_to_an_end(download: Downloads) -> None:
    with pytest.raises(
        FetchError, match=r"^IncompleteRead\(10 bytes.*\) \(4 attempts\)$"
    ) as caught:
        download(BODY, ALWAYS(drop(10)), retries=3)
    assert caught.value.by_server
    assert len(download.server.requests) == 4
    assert download.part.read_bytes() == BODY[:40]  # and can be gone on with


def test_attempts_that_get_further_do_not_count(download: Downloads) -> None:
    assert download(LONG, ALWAYS(drop(1 << 20)), retries=1)
    assert download.part.read_bytes() == LONG and download.received == len(LONG)


def test_without_ranges_coming_as_far_again_is_no_progress(download: Downloads) -> None:
    download.server.ranges = False
    with pytest.raises(FetchError):
        download(LONG, ALWAYS(drop(2 << 20)), retries=2)
    assert len(download.server.requests) == 3  # the first got further, the others did not


def test_a_server_that_says_nothing(download: Downloads) -> None:
    assert download(BODY, slow(100_000, 0.5), timeout_seconds=0.2)
    assert len(download.server.requests) > 1


def test_a_server_that_dawdles(download: Downloads) -> None:
    assert download(BODY[:2000], slow(10, 0.05), timeout_seconds=0.3)
    assert len(download.server.requests) == 2


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_a_server_in_trouble_is_asked_again(download: Downloads, code: int) -> None:
    assert download(BODY, status(code), status(code))
    assert len(download.server.requests) == 3


@pytest.mark.parametrize(("code", "barred"), [(404, False), (410, False), (403, True)])
def test_what_is_refused_is_not_asked_for_again(
    download: Downloads, code: int, barred: bool
) -> None:
    with pytest.raises(FetchError, match=f"HTTP {code}") as caught:
        download(BODY, ALWAYS(status(code)))
    assert (caught.value.status, caught.value.by_server) == (code, barred)
    assert len(download.server.requests) == 1


def test_a_disk_that_takes_no_more(download: Downloads) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            download(BODY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert download.part.read_bytes() == BODY[:100_000]
    assert download(BODY) and download.ranges[-1] == "bytes=100000-"


# Waiting


def test_retry_after_is_honoured_by_all(server: Server) -> None:
    server.put("/pubmed/a", b"a")
    server.put("/pubmed/b", b"b")
    server.faults["/pubmed/a"] = [status(503, Retry_After="1")]
    shared = client()
    thread = threading.Thread(target=shared.get, args=(f"{server.url}/a",))
    thread.start()
    while not server.requests:
        time.sleep(0.01)
    time.sleep(0.1)
    assert shared.get(f"{server.url}/b").content == b"b"
    thread.join()
    first, *others = server.requests
    assert all(r.at - first.at >= 0.9 for r in others) and len(others) == 2


def test_retry_after_as_a_date(server: Server) -> None:
    server.put("/pubmed/a", b"a")
    date = email.utils.formatdate(time.time() + 2, usegmt=True)
    server.faults["/pubmed/a"] = [status(503, Retry_After=date)]
    assert client().get(f"{server.url}/a").content == b"a"
    first, second = server.requests
    assert second.at - first.at >= 0.5


def test_retry_after_that_says_nothing(server: Server) -> None:
    server.put("/pubmed/a", b"a")
    server.faults["/pubmed/a"] = [status(503, Retry_After="soon")]
    assert client().get(f"{server.url}/a").content == b"a"


def test_who_is_told_to_come_back_much_later_gives_up(server: Server) -> None:
    server.faults["/pubmed/a"] = [status(503, Retry_After="3600")]
    with pytest.raises(FetchError, match=r"HTTP 503.*again in 3,600 s"):
        client().get(f"{server.url}/a")
    assert len(server.requests) == 1


def test_a_stop_ends_a_wait_and_a_download(server: Server, tmp_path: Path) -> None:
    server.put("/pubmed/a", LONG)
    server.faults["/pubmed/a"] = [slow(10_000, 0.02)]
    server.faults["/pubmed/b"] = [status(503, Retry_After="60")]
    ended: list[float] = []

    def work(path: str) -> None:
        with pytest.raises(Stopped):
            shared.download(f"{server.url}/{path}", tmp_path / path, md5_of(LONG), lambda _: None)
        ended.append(time.monotonic())

    shared = client()
    threads = [threading.Thread(target=work, args=(path,)) for path in "ab"]
    for thread in threads:
        thread.start()
        time.sleep(0.2)
    stopped = time.monotonic()
    shared.pace.stop()
    for thread in threads:
        thread.join()
    assert len(ended) == 2 and max(ended) - stopped < 0.5
    assert LONG.startswith((tmp_path / "a").read_bytes())


# Small bodies


def test_a_small_body_is_whole_or_fetched_again(server: Server) -> None:
    server.put("/pubmed/a", b"whole")
    server.faults["/pubmed/a"] = [drop(3), lie(5), status(500)]
    assert client().get(f"{server.url}/a").content == b"whole"
    assert len(server.requests) == 4


def test_a_redirect_is_followed_and_told(server: Server) -> None:
    server.put("/pubmed/new", b"x")
    server.faults["/pubmed/old"] = [status(301, Location="/pubmed/new")]
    page = client().get(f"{server.url}/old")
    assert (page.url, page.content) == (f"{server.url}/new", b"x")


def test_nobody_listens() -> None:
    with pytest.raises(FetchError, match="Connection refused"):
        client(retries=1).get("http://127.0.0.1:9/pubmed/")


def test_a_zipped_answer_is_stored_as_it_came(download: Downloads) -> None:
    def zipped(handler: Any, body: bytes) -> None:
        handler.start(200, {"Content-Encoding": "gzip", "Content-Length": str(len(body))})
        handler.wfile.write(body)

    assert download(BODY, zipped)
    assert download.part.read_bytes() == BODY


def test_chunks_that_end_early(download: Downloads) -> None:
    def chunked(handler: Any, body: bytes) -> None:
        handler.start(200, {"Transfer-Encoding": "chunked"})
        handler.wfile.write(b"%x\r\n" % 1000 + body[:1000] + b"\r\n" + b"3e8\r\nxx")
        handler.cut()

    assert not download(BODY, chunked) or download.part.read_bytes() == BODY
    assert download(BODY, serve(BODY)) and download.part.read_bytes() == BODY
