"""Files of weights that are damaged, cut off or missing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from engine.checkpoints.load import Checkpoint, load_checkpoint
from engine.checkpoints.weights import check_weights
from engine.runs.pipeline import plan_engines
from engine.steps.annotator import annotator_of
from schemas.configs.options import EngineOptions
from schemas.errors import UsageError


@pytest.fixture
def sharded(make_checkpoint: Callable[[str], Path]) -> Path:
    """A checkpoint of two files of weights and their index."""
    path = make_checkpoint("sharded")
    (path / "model.safetensors").unlink()
    for number in (1, 2):
        save_file({f"w{number}": np.zeros((4, 4))}, path / f"model-{number}.safetensors")
    named = {f"w{n}": f"model-{n}.safetensors" for n in (1, 2)}
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": named}))
    return path


def check(path: Path) -> None:
    load_checkpoint.cache_clear()
    check_weights(load_checkpoint(str(path)))


def test_whole_weights_pass(sharded: Path, nano: Checkpoint) -> None:
    check(sharded)
    check_weights(nano)


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut off": (
        lambda p: (p / "model-2.safetensors").write_bytes(
            (p / "model-2.safetensors").read_bytes()[:-8]
        ),
        "model-2.safetensors: ",
    ),
    "empty": (lambda p: (p / "model-1.safetensors").write_bytes(b""), "model-1.safetensors: "),
    "a page of HTML": (
        lambda p: (p / "model-1.safetensors").write_text("<html>" + "x" * 100),
        "model-1.safetensors: ",
    ),
    "a pointer of Git LFS": (
        lambda p: (p / "model-1.safetensors").write_text(
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 16060522240\n"
        ),
        "model-1.safetensors: ",
    ),
    "missing": (
        lambda p: (p / "model-2.safetensors").unlink(),
        "model-2.safetensors: missing, but model.safetensors.index.json names it",
    ),
    "another shard": (
        lambda p: shutil.copy(p / "model-1.safetensors", p / "model-2.safetensors"),
        "model-2.safetensors: lacks w2, which model.safetensors.index.json names",
    ),
    "an index that is none": (
        lambda p: (p / "model.safetensors.index.json").write_text("[]"),
        "model.safetensors.index.json: expected an object with weight_map",
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_not_whole_is_named(sharded: Path, name: str) -> None:
    spoil, message = SPOILT[name]
    spoil(sharded)
    with pytest.raises(UsageError) as caught:
        check(sharded)
    assert message in str(caught.value) and str(sharded) in str(caught.value)


def test_every_damaged_file_is_named_before_a_run(sharded: Path) -> None:
    for number in (1, 2):
        (sharded / f"model-{number}.safetensors").write_bytes(b"123")
    annotator = annotator_of(str(sharded))
    for backend in ("vllm", "transformers"):
        with pytest.raises(UsageError, match=r"model-1\.safetensors: .*; model-2\.safetensors: "):
            plan_engines(EngineOptions(backend=backend), annotator)
