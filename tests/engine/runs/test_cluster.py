"""What an engine takes of a cluster."""

from typing import Any

import pytest

from engine.runs import cluster


def node(cpus: float, gpus: float = 0, alive: bool = True) -> dict[str, Any]:
    return {"Alive": alive, "Resources": {"CPU": cpus, **({"GPU": gpus} if gpus else {})}}


@pytest.mark.parametrize(
    ("nodes", "engines", "expected"),
    [
        ([node(2)], 1, (1.0, 0.0, 1)),
        ([node(2)], 2, (0.5, 0.0, 1)),
        ([node(16)], 1, (15.0, 0.0, 15)),
        ([node(16)] * 4, 1, (15.0, 0.0, 15)),  # an engine has one node
        ([node(8), node(64, alive=False)], 1, (7.0, 0.0, 7)),
        ([node(1)], 1, (0.0, 0.0, 1)),
        ([node(4), node(4, gpus=2)], 2, (1.0, 2.0, 1)),
    ],
)
def test_an_engine_takes_what_one_node_has(
    monkeypatch: pytest.MonkeyPatch,
    nodes: list[dict[str, Any]],
    engines: int,
    expected: tuple[float, float, int],
) -> None:
    total = {
        kind: sum(n["Resources"].get(kind, 0) for n in nodes if n["Alive"])
        for kind in ("CPU", "GPU")
    }
    monkeypatch.setattr(cluster.ray, "nodes", lambda: nodes)
    monkeypatch.setattr(cluster.ray, "cluster_resources", lambda: total)
    assert cluster.pool_resources(engines, tensor_parallel_size=2) == expected
