"""An HTTP server on the loopback that serves files as NLM does, and fails as it is told to.

What happens to a request is steered per path: ``server.faults[path]`` is a list, whose first entry
is taken for each request (the last one stays if it is ``ALWAYS`` of something).
"""

import hashlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = Callable[["Handler", bytes], None]
"""Answers a request for a body in its own way."""


def md5_of(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


class ALWAYS:
    """A fault for every further request."""

    def __init__(self, fault: Fault):
        self.fault = fault


def drop(after: int) -> Fault:
    """Announce the whole length, send ``after`` bytes, then cut the connection."""

    def answer(handler: "Handler", body: bytes) -> None:
        status, part, headers = handler.part_of(body)
        handler.start(status, headers | {"Content-Length": str(len(part))})
        handler.wfile.write(part[:after])
        handler.cut()

    return answer


def lie(by: int) -> Fault:
    """Announce a length that is wrong by ``by`` bytes."""

    def answer(handler: "Handler", body: bytes) -> None:
        status, part, headers = handler.part_of(body)
        handler.start(status, headers | {"Content-Length": str(len(part) + by)})
        handler.wfile.write(part)
        handler.cut()

    return answer


def status(code: int, **headers: str) -> Fault:
    def answer(handler: "Handler", body: bytes) -> None:
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        handler.start(code, named | {"Content-Length": "5"})
        handler.wfile.write(b"sorry")

    return answer


def serve(content: bytes) -> Fault:
    """Send ``content`` instead of the file."""

    def answer(handler: "Handler", body: bytes) -> None:
        handler.send_body(content)

    return answer


def slow(piece: int, seconds: float) -> Fault:
    """Send ``piece`` bytes at a time, with a pause of ``seconds`` after each."""

    def answer(handler: "Handler", body: bytes) -> None:
        code, part, headers = handler.part_of(body)
        handler.start(code, headers | {"Content-Length": str(len(part))})
        for start in range(0, len(part), piece):
            handler.wfile.write(part[start : start + piece])
            time.sleep(seconds)

    return answer


def other_range(handler: "Handler", body: bytes) -> None:
    """Send another range than the one asked for."""
    span = {"Content-Range": f"bytes 5-9/{len(body)}", "Content-Length": "5"}
    handler.start(206, span)
    handler.wfile.write(body[5:10])


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    at: float = field(default_factory=time.monotonic)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/pubmed"
        self.files: dict[str, bytes] = {}
        self.stamps: dict[str, int] = {}
        self.faults: dict[str, list[Fault | ALWAYS]] = {}
        self.requests: list[Request] = []
        self.ranges = True
        self.dates = True
        self.lock = threading.Lock()
        self.open_now = self.open_most = 0

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no fault."""

    def publish(self, folder: str, name: str, content: bytes) -> str:
        """A file and its md5; gives the path of the file."""
        path = f"/pubmed/{folder}/{name}"
        self.put(path, content)
        self.put(f"{path}.md5", f"MD5({name})= {md5_of(content)}\n".encode())
        return path

    def put(self, path: str, content: bytes) -> None:
        self.files[path] = content
        self.stamps[path] = self.stamps.get(path, 0) + 1

    def asked(self, ending: str = "") -> list[Request]:
        return [r for r in self.requests if r.path.endswith(ending)]

    def index(self, folder: str) -> bytes:
        lines = ['<a href="/pubmed/">Parent Directory</a>', '<a href="README.txt">README.txt</a>']
        for path, content in sorted(self.files.items()):
            if path.startswith(folder):
                name = path.removeprefix(folder)
                day = f"2026-01-{self.stamps[path]:02} 14:48  {len(content)}" if self.dates else ""
                lines.append(f'<a href="{name}">{name}</a>   {day}')
        title = f"Index of {folder}"
        return (
            f"<html><head><title>{title}</title></head><body><h1>{title}</h1><pre>"
            + "\n".join(lines)
            + "\n</pre></body></html>\n"
        ).encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        server = self.server
        with server.lock:
            server.requests.append(Request(self.path, dict(self.headers)))
            server.open_now += 1
            server.open_most = max(server.open_most, server.open_now)
            faults = server.faults.get(self.path, [])
            fault = faults[0] if faults else None
            if fault and not isinstance(fault, ALWAYS):
                faults.pop(0)
        try:
            body = server.files.get(self.path)
            known = fault or any(p.startswith(self.path) for p in server.files)
            if body is None and self.path.endswith("/") and known:
                body = server.index(self.path)
            if fault:
                answer = fault.fault if isinstance(fault, ALWAYS) else fault
                answer(self, body or b"")
            elif body is None:
                status(404)(self, b"")
            else:
                self.send_body(body)
        finally:
            with server.lock:
                server.open_now -= 1

    def part_of(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers, as the Range asks."""
        tag = f'"{md5_of(body)}"'
        headers = {"ETag": tag}
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not match or not self.server.ranges or self.headers.get("If-Range", tag) != tag:
            return 200, body, headers
        start = int(match[1])
        if start >= len(body):
            return 416, b"", headers | {"Content-Range": f"bytes */{len(body)}"}
        span = f"bytes {start}-{len(body) - 1}/{len(body)}"
        return 206, body[start:], headers | {"Content-Range": span}

    def send_body(self, body: bytes) -> None:
        code, part, headers = self.part_of(body)
        self.start(code, headers | {"Content-Length": str(len(part))})
        self.wfile.write(part)

    def start(self, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()

    def cut(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def nlm_server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
