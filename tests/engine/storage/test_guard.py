"""What a process logs and prints once it has met credentials."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def run(code: str) -> tuple[int, str]:
    """Exit code, and all that a process of its own prints."""
    before = "import logging, threading; from engine.storage.filesystem import filesystem\n"
    done = subprocess.run(
        [sys.executable, "-c", before + code], cwd=ROOT, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def test_logs_and_tracebacks_of_a_process_that_opened_a_uri_with_credentials() -> None:
    code, said = run(
        """
logging.basicConfig()
early = logging.getLogger("early")
early.addHandler(logging.StreamHandler())
filesystem("memory://me:S3CRET@host/ck")
early.warning("of %s", "memory://me:S3CRET@host/ck")
late = logging.StreamHandler()
logging.getLogger("other.library").addHandler(late)
logging.getLogger("other.library").error("no %s", "/me:S3CRET@host/ck")
try:
    raise OSError("cannot open /me:S3CRET@host/ck")
except OSError:
    early.exception("failed", stack_info=True)
early.warning("wrong arguments %d", "S3CRET")
def fail(): raise KeyError("S3CRET in a thread")
thread = threading.Thread(target=fail); thread.start(); thread.join()
class Ends:
    def __del__(self): raise ValueError("S3CRET at the end")
ended = Ends(); del ended
raise ValueError("S3CRET") from OSError("https://h/?sig=S3CRET")
"""
    )
    assert code == 1 and "S3CRET" not in said
    assert "wrong arguments %d ('***',)" in said and "Stack (most recent call last)" in said
    for text in (
        "of memory://***@host/ck", "no /***host/ck", "cannot open /***host/ck", "Traceback",
        "KeyError: '*** in a thread'", "ValueError: *** at the end", "ValueError: ***\n",
        "OSError: https://h/?sig=***",
    ):  # fmt: skip
        assert text in said


def test_what_holds_no_credentials_is_as_before() -> None:
    code, said = run(
        """
logging.basicConfig(format="%(name)s %(message)s %(args)s")
from engine.storage.guard import guard_logs
guard_logs(); first = logging.getLogRecordFactory(); guard_logs()
assert logging.getLogRecordFactory() is first
logging.getLogger("a").warning("%d of %s", 3, "s3://bucket/x")
raise SystemExit("the end")
"""
    )
    assert (code, said) == (1, "a 3 of s3://bucket/x (3, 's3://bucket/x')\nthe end\n")


def test_a_process_that_meets_none_is_left_alone() -> None:
    code, said = run(
        """
filesystem("memory://host/ck")
print(logging.getLogRecordFactory().__name__)
"""
    )
    assert (code, said) == (0, "LogRecord\n")
