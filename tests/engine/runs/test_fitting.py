"""An engine that fits on no node of the cluster, now or after a while."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from engine.runs import fitting
from engine.runs.fitting import check_fit
from schemas.errors import UsageError


class FakeCluster:
    """Nodes by what they have. ``joins`` are nodes that join at the second look after they were
    asked for; ``addable`` what the autoscaler's kinds of nodes have, and how many it may add."""

    def __init__(self, *nodes: dict[str, float]) -> None:
        self.present = list(nodes)
        self.joins: list[dict[str, float]] = []
        self.addable: list[tuple[dict[str, float], int]] = []
        self.asked: list[list[dict[str, float]]] = []
        self.looks = 0

    def nodes(self) -> list[dict[str, Any]]:
        self.looks += 1
        if self.asked and self.looks > 3:
            self.present += self.joins
            self.joins = []
        gone = {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}
        return [gone, *({"Alive": True, "Resources": n} for n in self.present)]

    def resources(self) -> dict[str, float]:
        kinds = {k for n in self.present for k in n}
        return {k: sum(n.get(k, 0) for n in self.present) for k in kinds}

    def config(self) -> Any:
        groups = [SimpleNamespace(resources=r, max_count=n) for r, n in self.addable]
        return SimpleNamespace(node_group_configs=groups) if groups else None


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    made = FakeCluster({"CPU": 16, "GPU": 1}, {"CPU": 16, "GPU": 1}, {"CPU": 4})
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "nodes", made.nodes)
    monkeypatch.setattr(ray, "cluster_resources", made.resources)
    monkeypatch.setattr(ray._private.state.state, "get_cluster_config", made.config)
    monkeypatch.setattr(fitting, "request_resources", lambda bundles: made.asked.append(bundles))
    monkeypatch.setattr(fitting, "_POLL_S", 0.01)
    return made


@pytest.mark.parametrize(("cpus", "gpus"), [(1, 1), (16, 1), (16, 0), (0, 0)])
def test_an_engine_that_fits_is_not_waited_for(
    cluster: FakeCluster, cpus: float, gpus: float
) -> None:
    check_fit(cpus, gpus, 1000)
    assert not cluster.asked


def test_without_ray_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    check_fit(1, 8, None)


def test_one_that_fits_nowhere_says_what_is_asked_and_what_nodes_have(
    cluster: FakeCluster,
) -> None:
    began = time.monotonic()
    with pytest.raises(UsageError) as told:
        check_fit(1, 2, None)
    assert time.monotonic() - began < 10
    said = str(told.value)
    assert "asks for 1 CPU and 2 GPUs of one node (tensor_parallel_size" in said
    assert said.endswith("2 nodes with 16 CPUs and 1 GPU, 1 node with 4 CPUs")
    with pytest.raises(UsageError, match="17 CPUs and 1 GPU of one node"):
        check_fit(17, 1, None)
    assert not cluster.asked


def test_a_node_that_joins_later_is_waited_for_as_long_as_told(cluster: FakeCluster) -> None:
    cluster.joins = [{"CPU": 8, "GPU": 2}]
    check_fit(1, 2, 30)
    # What was asked of an autoscaler is taken back: the engine asks for itself from then on.
    assert cluster.asked == [[{"CPU": 1, "GPU": 2}], []]


def test_waiting_ends(cluster: FakeCluster) -> None:
    with pytest.raises(UsageError, match=r"waited 0 s for one to join \(node_wait_seconds\)"):
        check_fit(1, 2, 0.05)
    assert cluster.asked[-1] == []


@pytest.mark.parametrize("count", [4, -1])
def test_the_autoscaler_is_waited_for_where_it_can_add_such_a_node(
    cluster: FakeCluster, count: int
) -> None:
    cluster.addable = [({"CPU": 4}, 8), ({"CPU": 4, "GPU": 4}, count)]
    cluster.joins = [{"CPU": 4, "GPU": 4}]
    check_fit(1, 2, None)
    assert cluster.asked == [[{"CPU": 1, "GPU": 2}], []]


def test_the_autoscaler_is_not_waited_for_where_it_cannot(cluster: FakeCluster) -> None:
    cluster.addable = [({"CPU": 4, "GPU": 1}, 8), ({"CPU": 64, "GPU": 8}, 0)]
    with pytest.raises(UsageError, match=r"the autoscaler can add 1 node with 4 CPUs and 1 GPU$"):
        check_fit(1, 2, None)
    assert not cluster.asked
    # It is told not to be waited for.
    cluster.addable.append(({"CPU": 64, "GPU": 8}, 1))
    with pytest.raises(UsageError):
        check_fit(1, 2, 0)
    assert not cluster.asked


def test_a_head_that_says_so_waits_for_gpus(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "AUTOSCALER_S", 0.05)
    cluster.present = [{"CPU": 4, "pubmark_gpu_workers": 16}]
    with pytest.raises(UsageError, match="fits on none of the cluster: 1 node with 4 CPUs; waited"):
        check_fit(1, 1, None)
    assert cluster.asked[0] == [{"CPU": 1, "GPU": 1}]


def test_an_interruption_takes_the_request_back(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("engine.runs.fitting.time.sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        check_fit(1, 2, 1000)
    assert cluster.asked[-1] == []
