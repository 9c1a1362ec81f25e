"""What an engine takes of a cluster."""

import os
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import RayError

from engine.runs import cluster
from engine.runs.cluster import describe_failure
from schemas.errors import JobError


def node(cpus: float, gpus: float = 0, alive: bool = True) -> dict[str, Any]:
    return {"Alive": alive, "Resources": {"CPU": cpus, **({"GPU": gpus} if gpus else {})}}


@pytest.mark.parametrize(
    ("nodes", "engines", "expected"),
    [
        ([node(2)], 1, (1.0, 0.0, 1)),
        ([node(2)], 2, (0.5, 0.0, 1)),
        ([node(16)], 1, (15.0, 0.0, 15)),
        ([node(16)] * 4, 1, (15.0, 0.0, 15)),  # an engine has one node
        ([node(2)] * 3, 3, (1.0, 0.0, 1)),  # one on each
        ([node(2)] * 3, 4, (0.5, 0.0, 1)),  # two would not fit with 0.75 each
        ([node(4)], 4, (0.75, 0.0, 1)),
        ([node(16), node(4)], 5, (3.0, 0.0, 3)),
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


@ray.remote(num_cpus=0)
class Broken:
    """An actor that cannot be made, for a reason that a library wraps."""

    def __init__(self, kind: str) -> None:
        try:
            raise KeyError("inner")
        except KeyError as e:
            if kind == "ours":
                raise JobError("nano: there is no room, as ValueError: 3 says") from e
            raise ValueError("two faults:\n  first: a\n\nsecond: b") from e

    def ready(self) -> None: ...


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("ours", "nano: there is no room, as ValueError: 3 says"),
        ("another's", "ValueError: two faults: first: a: second: b"),
    ],
)
def test_an_actor_that_cannot_be_made_says_why_in_one_line(kind: str, said: str) -> None:
    actor = Broken.remote(kind)  # type: ignore[attr-defined]
    with pytest.raises(RayError) as failure:
        ray.get(actor.ready.remote())
    assert describe_failure(failure.value) == said


def test_a_failure_without_a_traceback_is_its_first_line() -> None:
    assert describe_failure(RayError("it is lost\nmore")) == "it is lost"
    assert describe_failure(RayError()) == "RayError"


@pytest.mark.parametrize("is_local", [True, False])
def test_without_a_home_its_files_go_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_local: bool
) -> None:
    names = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "TRITON_HOME")
    for name in (*names, "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # so that it is put back afterwards
        monkeypatch.delenv(name)
    monkeypatch.setenv("PUBMARK_CACHE", str(tmp_path))
    monkeypatch.setenv("TRITON_HOME", "/mine")
    cluster._do_without_home(is_local)
    assert [os.environ[n] for n in names] == [str(tmp_path), str(tmp_path), "/mine"]
    # A cluster that is there has a token already, which this cannot know.
    assert ("RAY_AUTH_TOKEN" in os.environ) == is_local
