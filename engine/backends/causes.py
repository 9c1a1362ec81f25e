"""Why an engine failed, out of what it and its processes have printed.

Enters: the moment from which on output counts. Leaves: one line. vLLM's engine is a process of its
own: what goes wrong in it is printed there, and what is raised here only points "above".
"""

import os
import re
import stat
from pathlib import Path

from schemas.errors import reason

_STREAMS = (1, 2)
_MOST_BYTES = 1 << 20
_MOST_CHARACTERS = 600
_PREFIX = re.compile(r"^(?:\([^)]*pid=\d+\)\s*)?(?:(?:ERROR|CRITICAL) \S+ \S+ \[[^\]]*\]\s?)?")
"""What vLLM puts before a line of a process of its own, and before a line of its log."""
_RAISED = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit): \S.*")
_CRASHED = re.compile(
    r"terminate called after .*|\s*what\(\): .*|Fatal Python error: .*|.*Segmentation fault.*|"
    r".*CUDA error: .*|.*[Oo]ut of memory.*"
)
_PYDANTIC = re.compile(r" \[type=.*", re.DOTALL)
"""What pydantic adds to a message: the kind of fault, the whole input, and a link."""
_ELSEWHERE = re.compile(
    r"[Ss]ee (?:the )?(?:root cause|stack trace)|root cause above|Engine core init", re.I
)
"""What an error says that only points to another."""


class Printed:
    """What this process and its children print from now on, as long as that goes to files, as it
    does in Ray's workers; else nothing is known."""

    def __init__(self) -> None:
        self._from = {
            fd: os.fstat(fd).st_size for fd in _STREAMS if stat.S_ISREG(os.fstat(fd).st_mode)
        }

    def text(self) -> str:
        """What was printed, at most a megabyte from the end of each stream."""
        texts = []
        for fd, start in self._from.items():
            try:
                with Path(f"/proc/self/fd/{fd}").open("rb") as file:
                    end = file.seek(0, os.SEEK_END)
                    file.seek(max(start, end - _MOST_BYTES))
                    texts.append(file.read().decode(errors="replace"))
            except OSError:  # without /proc
                continue
        return "\n".join(texts)


def cause_of(error: BaseException, printed: str) -> str:
    """Why ``error`` was raised, in one line: the error itself or, if that only points to another,
    the one that was ``printed``."""
    said = _PYDANTIC.sub("", f"{type(error).__name__}: {reason(error)}")
    if _ELSEWHERE.search(said) and (found := _last_raised(printed)):
        said = found
    return said if len(said) <= _MOST_CHARACTERS else said[:_MOST_CHARACTERS] + "…"


def _last_raised(printed: str) -> str | None:
    """The last error in a text that does not point elsewhere; or the last words of a crash."""
    raised = crashed = None
    for line in printed.splitlines():
        bare = _PREFIX.sub("", line)
        if match := _RAISED.match(bare):
            if not _ELSEWHERE.search(bare):
                raised = match[0]
        elif match := _CRASHED.fullmatch(bare):
            crashed = match[0].strip()
    return raised or crashed
