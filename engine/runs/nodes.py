"""Whether all nodes of the cluster have what a job needs of each of them.

Enters: paths, and the name of a backend. Leaves: nothing, or an error that names the node and what
it lacks, before anything has started: a path of the driver's own machine would otherwise show in
the middle of a run, as the traceback of a worker. Left to others: nodes that join later, whose
errors the run itself tells (cluster.py).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from engine.backends import backend_class
from engine.tables.root import local_path
from schemas.errors import UsageError

_ANSWER_S = 60.0
"""Seconds that a node may take to answer. One that does not is passed over: it may be leaving."""
_NAMED = 3
"""Nodes that the error names."""


def check_paths(uris: Sequence[str]) -> None:
    """Refuse absolute paths that are not on all nodes of the cluster, but on the driver's machine.
    URIs, hub ids and the name of the embedded checkpoint are passed over.

    Raises:
        UsageError: naming the path and the nodes.
    """
    if paths := [p for uri in uris if Path(p := local_path(uri)).is_absolute()]:
        _check(_first_missing, paths, "expected a folder that all nodes share, or a URI (s3://, …)")


def check_backend(name: str) -> None:
    """Refuse a backend that cannot be imported on all nodes of the cluster.

    Raises:
        UsageError: naming the backend and the nodes.
    """
    _check(_fault_of_backend, name, "expected the same packages on all nodes")


def _check(ask: Callable[[Any], str | None], what: Any, expected: str) -> None:
    """Ask all nodes at once, if there are several; ``ask`` gives what is wrong there."""
    nodes = [n for n in ray.nodes() if n["Alive"]] if ray.is_initialized() else []
    if len(nodes) < 2:
        return
    asked = {
        ray.remote(num_cpus=0, max_retries=0)(ask)
        .options(scheduling_strategy=NodeAffinitySchedulingStrategy(n["NodeID"], soft=False))
        .remote(what): n
        for n in nodes
    }
    done, _ = ray.wait(list(asked), num_returns=len(asked), timeout=_ANSWER_S)
    faults: dict[str, list[str]] = {}
    for answer in done:
        try:
            fault = ray.get(answer)
        except RayError:  # the node left
            continue
        if fault:
            faults.setdefault(fault, []).append(_name(asked[answer]))
    if faults:
        lines = [f"{fault} on {_listed(nodes)}; {expected}" for fault, nodes in faults.items()]
        raise UsageError("\n".join(lines))


def _first_missing(paths: Sequence[str]) -> str | None:
    missing = [p for p in paths if not Path(p).exists()]
    if not missing:
        return None
    more = f" (and {len(missing) - 1:,} more)" if len(missing) > 1 else ""
    return f"{missing[0]}{more}: does not exist"


def _fault_of_backend(name: str) -> str | None:
    try:
        backend_class(name)
    except UsageError as e:
        return str(e)
    return None


def _name(node: dict[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


def _listed(nodes: Sequence[str]) -> str:
    named = ", ".join(sorted(nodes)[:_NAMED])
    more = f" and {len(nodes) - _NAMED} more" if len(nodes) > _NAMED else ""
    return f"node{'s' if len(nodes) > 1 else ''} {named}{more}"
