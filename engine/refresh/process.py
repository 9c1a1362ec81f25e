"""Which process of which machine this is, and whether one that left its token still runs.

A PID alone says little: another process has it some time later, and containers give the same ones
again and again. With the boot of the machine, the namespace of PIDs and the start of the process,
it is unique. Left to others: what a dead process means (lock.py).
"""

import os
from pathlib import Path


def this_process() -> str | None:
    """A token of this process; None where the system does not say enough (no ``/proc``)."""
    world, started = _world(), _started(os.getpid())
    return f"{world} {os.getpid()} {started}" if world and started else None


def is_dead(token: str | None) -> bool:
    """Whether the process of a token is known to have ended.

    False where that is not known, as of other machines and containers: their processes cannot be
    seen from here.
    """
    world, _, rest = (token or "").rpartition(" ")[0].rpartition(" ")
    started = (token or "").rpartition(" ")[2]
    if not rest.isdigit() or world != _world():
        return False
    return _started(int(rest)) != started


def _world() -> str | None:
    """The boot of this machine, and the namespace in which its PIDs count."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """When a process was started, in ticks since the boot; None if there is none, or a zombie."""
    try:
        # The name, in brackets, may hold anything; after it come the state and 18 more fields.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
