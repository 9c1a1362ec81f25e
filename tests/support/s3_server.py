"""An S3-compatible server (moto) in a process of its own, which can be told to refuse some writes.

Not in the process that tests: there it waits for the interpreter, whose lock delta-rs holds while
it waits for the server.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import boto3
from moto.moto_server import threaded_moto_server

BUCKET = "bucket"


class Server:
    """What tests know of the server: its URL, what a client sets, and what it is to refuse."""

    def __init__(self, url: str, folder: Path):
        self.url, self._folder = url, folder
        self.environment = {
            "AWS_ENDPOINT_URL": url, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip
        self.client = boto3.client(
            "s3", endpoint_url=url, region_name="us-east-1",
            aws_access_key_id="test", aws_secret_access_key="test",
        )  # fmt: skip

    def refuse(self, *parts: str) -> None:
        """Refuse from now on to store what has all these parts in its path; without any, nothing.
        What was refused before is forgotten."""
        (self._folder / "refused").unlink(missing_ok=True)
        (self._folder / "refuse").write_text("\n".join(parts))

    @property
    def requests(self) -> int:
        """How many requests came."""
        file = self._folder / "requests"
        return file.stat().st_size if file.exists() else 0

    @property
    def refused(self) -> int:
        """How many requests were refused."""
        file = self._folder / "refused"
        return file.stat().st_size if file.exists() else 0


@contextmanager
def s3_server(folder: Path) -> Iterator[Server]:
    """A server with an empty bucket; ``folder`` is for what it is told."""
    process = subprocess.Popen(
        [sys.executable, __file__, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        server = Server(process.stdout.readline().strip(), folder)
        server.client.create_bucket(Bucket=BUCKET)
        yield server
    finally:
        process.terminate()
        process.communicate()


def _answer(folder: Path, app: Any, environ: dict[str, Any], start_response: Any) -> Any:
    with (folder / "requests").open("a") as requests:
        requests.write(".")
    file = folder / "refuse"
    parts = file.read_text().split() if file.exists() else []
    path = environ["PATH_INFO"]
    if environ["REQUEST_METHOD"] != "PUT" or not parts or any(p not in path for p in parts):
        return app(environ, start_response)
    with (folder / "refused").open("a") as refused:
        refused.write(".")
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0) or -1)
    answer = b"<Error><Code>AccessDenied</Code><Message>told to fail</Message></Error>"
    headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(answer)))]
    start_response("403 Forbidden", headers)
    return [answer]


def main() -> None:
    make_server = threaded_moto_server.make_server

    def make(host: str, port: int, app: Any, *args: Any, **kwargs: Any) -> Any:
        return make_server(host, port, partial(_answer, Path(sys.argv[1]), app), *args, **kwargs)

    threaded_moto_server.make_server = make
    server = threaded_moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    print(f"http://{host}:{port}", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
