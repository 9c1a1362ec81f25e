"""Why an engine failed, out of what its processes printed."""

import subprocess
import sys
from pathlib import Path

import pytest

from engine.backends.causes import cause_of

POINTS = RuntimeError(
    "Engine core initialization failed. See root cause above. Failed core proc(s): {}"
)
LOG = "(EngineCore pid=4711) ERROR 11-26 17:00:00 [core.py:1374] "
CACHE = (
    "ValueError: To serve at least one request with the model's max seq len (131072), 16.00 GiB KV "
    "cache is needed, which is larger than the available KV cache memory (2.10 GiB)."
)
MEMORY = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 112.00 MiB."


def traceback(*errors: str, prefix: str = "") -> str:
    lines = []
    for error in errors:
        lines += ["Traceback (most recent call last):", '  File "core.py", line 1, in run', error]
    return "".join(f"{prefix}{line}\n" for line in lines)


@pytest.mark.parametrize(
    ("printed", "cause"),
    [
        (traceback(CACHE, prefix=LOG), CACHE),
        (traceback(CACHE, prefix=LOG) + traceback(CACHE, prefix="(EngineCore pid=4711) "), CACHE),
        (traceback(MEMORY) + traceback(f"RuntimeError: {POINTS}"), MEMORY),
        ("Loading weights\nterminate called after throwing an instance of 'c10::Error'\n"
         "  what():  CUDA error: an illegal memory access was encountered\n",
         "what():  CUDA error: an illegal memory access was encountered"),
        ("WARNING: a word of no note\n", f"RuntimeError: {POINTS}"),
        ("", f"RuntimeError: {POINTS}"),
    ],
)  # fmt: skip
def test_an_error_that_points_elsewhere_is_followed(printed: str, cause: str) -> None:
    assert cause_of(POINTS, printed) == cause


def test_an_error_that_says_why_stands_for_itself() -> None:
    error = ValueError("1 validation error for ModelConfig\n  Model type 'x' is not supported "
                       "[type=value_error, input_value=ArgsKwargs((), {…}), input_type=A]\n"
                       "    For further information visit https://errors.pydantic.dev")  # fmt: skip
    said = "ValueError: 1 validation error for ModelConfig: Model type 'x' is not supported"
    assert cause_of(error, traceback("OSError: an older one")) == said
    assert len(cause_of(ValueError("x" * 10_000), "")) < 700


PROGRAM = """
import os, subprocess, sys
from engine.backends.causes import Printed, cause_of
print("KeyError: an older one", flush=True)
printed = Printed()
subprocess.run([sys.executable, "-c", "raise MemoryError('no room for the cache')"])
cause = cause_of(RuntimeError("See stack trace (above)"), printed.text())
print(cause, file=open(sys.argv[1], "w"))
"""


def test_what_a_process_of_its_own_prints_counts(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out:
        subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "cause")],
            stdout=out, stderr=out, check=True, cwd=Path(__file__).parents[3],
        )  # fmt: skip
    assert (tmp_path / "cause").read_text() == "MemoryError: no room for the cache\n"
