"""Whether the head of a Ray cluster answers, before Ray itself is asked to connect.

Enters: an address as RAY_ADDRESS has it. Leaves: nothing, or an error that says what was tried.
Left to others: connecting (cluster.py). Ray would try a head that is not there for ever, in a loop
of its C++ core that Ctrl-C does not end.
"""

import logging
import socket
import threading
import time
from urllib.parse import urlsplit

from schemas.errors import JobError, reason

logger = logging.getLogger(__name__)

CONNECT_S = 40.0
"""Seconds that a head may take to be there: one that is just being started needs about ten."""
ANSWER_S = 20.0
"""Seconds that it may take to answer, once something listens at its address."""
_TRY_S, _PAUSE_S = 5.0, 2.0


def wait_for_head(address: str) -> None:
    """Wait until something listens at ``address`` (``host:port`` or ``ray://host:port``).

    Raises:
        JobError: if it does not within CONNECT_S, with the address, what was tried, and the last
            error.
    """
    host, port = _host_and_port(address)
    deadline = time.monotonic() + CONNECT_S
    tries = 0
    while True:
        tries += 1
        try:
            socket.create_connection((host, port), timeout=_TRY_S).close()
            return
        except (OSError, UnicodeError) as e:
            if time.monotonic() + _PAUSE_S > deadline:
                raise JobError(
                    f"no Ray cluster at {address} (RAY_ADDRESS): {_said(e, host)}, in {tries} "
                    f"tries within {CONNECT_S:.0f} s"
                ) from e
            if tries == 1:
                logger.warning(
                    "Ray's head at %s: %s; trying for %.0f s", address, _said(e, host), CONNECT_S
                )
        time.sleep(_PAUSE_S)


def _host_and_port(address: str) -> tuple[str, int]:
    scheme, _, rest = address.rpartition("://")
    try:
        url = urlsplit(f"//{rest}")
        host, port = url.hostname, url.port
    except ValueError:  # a port that is no number
        host = port = None
    if not host or not port or scheme not in ("", "ray"):
        raise JobError(
            f"no Ray cluster at {address}: expected RAY_ADDRESS to be host:port, as 10.0.0.5:6379, "
            "or not to be set, for a cluster of this machine alone"
        )
    return host, port


def _said(error: OSError | UnicodeError, host: str) -> str:
    if isinstance(error, socket.gaierror | UnicodeError):
        return f"the host name {host} does not resolve ({reason(error)})"
    if isinstance(error, TimeoutError):
        return "nothing answers there"
    return (error.strerror or reason(error)).lower()


def ask_head(address: str) -> None:
    """Ask what listens at ``address`` for the cluster's id. Of ``ray://`` nothing is asked.

    It is asked in a thread, since Ctrl-C ends this wait, but not the loop in Ray's core.

    Raises:
        JobError: if it does not answer as the head of a Ray cluster does within ANSWER_S.
    """
    if "://" in address:
        return
    # Ray's core is imported only here: it takes a second.
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    faults: list[BaseException] = []

    def ask() -> None:
        try:
            GcsClient(address=address)
        except BaseException as e:
            faults.append(e)

    thread = threading.Thread(target=ask, daemon=True, name="ask-head")
    thread.start()
    deadline = time.monotonic() + ANSWER_S
    while thread.is_alive() and time.monotonic() < deadline:
        thread.join(0.2)
    if not thread.is_alive() and not faults:
        return
    said = reason(faults[0]) if faults else ""
    if said and "Timed out" not in said:
        # Such as another token, of which Ray says more than a line.
        raise JobError(
            f"no Ray cluster at {address} (RAY_ADDRESS): what listens there answers: "
            f"{said.partition('. ')[0]}"
        )
    raise JobError(
        f"no Ray cluster at {address} (RAY_ADDRESS): something listens there, but did not answer "
        f"as Ray's head within {ANSWER_S:.0f} s; is it the head's port (6379, not 8265 or 10001), "
        "and the same Ray version as here?"
    )
