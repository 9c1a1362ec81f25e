"""Whether an engine fits on a node of the cluster that is connected, or of one that may join.

Enters: what an engine takes, and how long a node may be waited for. Leaves: nothing, or an error
that says what is asked for and what the nodes have: Ray would wait for such a node for ever. Left
to others: what an engine takes (cluster.py).
"""

import logging
import time
from collections import Counter
from collections.abc import Mapping

import ray
from ray.autoscaler.sdk import request_resources

from engine.runs.cluster import AUTOSCALES
from schemas.errors import UsageError

logger = logging.getLogger(__name__)

AUTOSCALER_S = 1800.0
"""Seconds that a node which the autoscaler can add is waited for, if not told otherwise. A
machine with a GPU takes some ten minutes to start and be set up, where one is to be had."""
_POLL_S = 2.0

Resources = Mapping[str, float]


def check_fit(cpus: float, gpus: float, wait_s: float | None) -> None:
    """Wait until some node has the CPUs and GPUs that one engine takes; without Ray, at once.

    Nodes count with all that they have, also what others use now. ``wait_s`` is how long a node may
    take to join; None is AUTOSCALER_S if the autoscaler can add one, and no time if it cannot.

    Raises:
        UsageError: if there is no such node by then.
    """
    asked = {"CPU": cpus, "GPU": gpus}
    if not ray.is_initialized() or _any_fits(asked, _nodes()):
        return
    types = _addable()
    addable = _any_fits(asked, types) or _autoscales(gpus)
    if wait_s is None:
        wait_s = AUTOSCALER_S if addable else 0.0
    if wait_s and _comes(asked, wait_s, addable):
        return
    message = (
        f"an engine asks for {_listed(asked)} of one node (tensor_parallel_size is the number of "
        f"its GPUs), and fits on none of the cluster: {_described(_nodes())}"
    )
    if types:
        message += f"; the autoscaler can add {_described(types)}"
    if wait_s:
        message += f"; waited {wait_s:.0f} s for one to join (node_wait_seconds)"
    raise UsageError(message)


def _comes(asked: Resources, wait_s: float, addable: bool) -> bool:
    """Whether a node that fits joins in time. The autoscaler, if there is one, is asked for it."""
    logger.warning(
        "no node of the cluster has %s: waiting up to %.0f s for one%s",
        _listed(asked), wait_s, " that the autoscaler can add" if addable else "",
    )  # fmt: skip
    deadline = time.monotonic() + wait_s
    request_resources(bundles=[{k: v for k, v in asked.items() if v}])
    try:
        while time.monotonic() < deadline:
            time.sleep(min(_POLL_S, wait_s))
            if _any_fits(asked, _nodes()):
                return True
        return False
    finally:
        # The engine itself asks for its node from here on. A request that stays keeps one up.
        request_resources(bundles=[])


def _nodes() -> list[Resources]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _addable() -> list[Resources]:
    """What the kinds of nodes have that the autoscaler may add; none if there is no autoscaler."""
    # Ray Data asks in the same way; there is no public one.
    config = ray._private.state.state.get_cluster_config()
    groups = config.node_group_configs if config else ()
    return [dict(g.resources) for g in groups if g.resources and g.max_count != 0]


def _autoscales(gpus: float) -> bool:
    return gpus > 0 and ray.cluster_resources().get(AUTOSCALES, 0) > 0


def _any_fits(asked: Resources, nodes: list[Resources]) -> bool:
    return any(all(n.get(kind, 0) >= count for kind, count in asked.items()) for n in nodes)


def _listed(resources: Resources) -> str:
    """``1 CPU and 2 GPUs``"""
    counts = {kind: resources.get(kind, 0) for kind in ("CPU", "GPU")}
    return " and ".join(
        f"{n:g} {kind}{'' if n == 1 else 's'}" for kind, n in counts.items() if n or kind == "CPU"
    )


def _described(nodes: list[Resources]) -> str:
    """``2 nodes with 16 CPUs and 1 GPU, 1 node with 4 CPUs``"""
    kinds = Counter(map(_listed, nodes))
    return ", ".join(f"{n} node{'s' if n > 1 else ''} with {has}" for has, n in kinds.items())
