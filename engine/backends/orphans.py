"""Processes that an engine has started, ended when the engine's own process ends, however it does.

Enters: the moment before an engine starts others. Leaves: nothing. vLLM's engine is such a process:
it goes on without the one that started it, and keeps the memory of its GPU, so that the engine
which is started in its place finds none.
"""

import os
import subprocess
import uuid
from multiprocessing import active_children
from pathlib import Path

_VARIABLE = "PUBMARK_ENGINE"

# Its input ends with the process that holds the other end. It then ends all that was started with
# the variable in its environment; it has an empty one itself.
_SCRIPT = """
read _
for process in /proc/[0-9]*; do
    if grep -qs "$1" "$process/environ"; then kill -9 "${process#/proc/}"; fi
done
"""


def end_with_this_process() -> "subprocess.Popen[bytes] | None":
    """Have a shell wait for the end of this process, and then end all processes that it starts from
    now on. Gives the shell, which must be kept; None on a system without /proc."""
    if not Path("/proc/self/environ").exists():
        return None
    token = f"{_VARIABLE}={uuid.uuid4().hex}"
    os.environ[_VARIABLE] = token.partition("=")[2]
    return subprocess.Popen(
        ["/bin/sh", "-c", _SCRIPT, "sh", token],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin"},
        start_new_session=True,  # what ends this process's group must not end it too
    )


def end_children() -> None:
    """End the processes that this one has started by multiprocessing: at once, also hung ones."""
    for child in active_children():
        child.kill()
