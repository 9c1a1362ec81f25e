"""Tiny citations, a fake backend, one small cluster for all tests of a session."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

ROOT = Path(__file__).parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark `ray` what runs on the cluster: each of its processes starts in seconds of CPU time."""
    for item in items:
        if "ray_session" in getattr(item, "fixturenames", ()):
            item.add_marker("ray")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real corpora beside the checkout; tests that need it skip without it."""
    folder = ROOT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("../shared/data is not here")
    return folder


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A Ray cluster of this machine's cores, which every job of the session joins.

    To start a process takes Ray two to five seconds, of importing itself. Those of tasks stay for
    the next test, and nobody watches for machines that a cloud takes away.
    """
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests/support")])
    from engine.runs.cluster import connected

    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RAY_num_workers_soft_limit", "6")
        patched.setenv("RAY_idle_worker_killing_time_threshold_ms", "600000")
        patched.setenv("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        # How often a run looks at its worker, which waits with each state for that.
        patched.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
        with connected():
            yield


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs run in this process, with every step but Ray: for what is not about Ray, in a tenth of
    the time."""
    import without_ray

    without_ray.replace(monkeypatch.setattr)
    monkeypatch.setattr(without_ray, "time", SimpleNamespace(sleep=lambda seconds: None))


@pytest.fixture
def write_jsonl(tmp_path: Path) -> Callable[..., str]:
    """Write citations (pmid, title, abstract) to a JSONL file and give its path."""

    def write(rows: list[tuple[Any, str, str]], name: str = "citations.jsonl") -> str:
        path = tmp_path / name
        lines = (json.dumps(dict(zip(("pmid", "title", "abstract"), r, strict=True))) for r in rows)
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return str(path)

    return write
