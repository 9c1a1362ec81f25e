"""The embedded checkpoint, and small ones made for a test."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from engine.checkpoints.load import Checkpoint, load_checkpoint
from engine.checkpoints.tokenizer import PromptTokenizer, load_tokenizer
from engine.tables.store import Store

# On a busy machine one slow example says nothing.
settings.register_profile("pubmark", deadline=None)
settings.load_profile("pubmark")


@pytest.fixture(scope="session")
def nano() -> Checkpoint:
    return load_checkpoint("nano")


@pytest.fixture(scope="session")
def tokenizer(nano: Checkpoint) -> PromptTokenizer:
    return load_tokenizer(nano.path)


@pytest.fixture
def make_checkpoint(nano: Checkpoint, tmp_path: Path) -> Callable[[str], Path]:
    """Makes a directory that passes for a checkpoint: nano's, but with three bytes of weights."""

    def make(name: str) -> Path:
        path = tmp_path / name
        path.mkdir()
        for file in ("pubmark.json", "tokenizer.json", "generation_config.json"):
            shutil.copy(Path(nano.path) / file, path)
        config = {"model_type": "llama", "eos_token_id": 2, "max_position_embeddings": 1024}
        (path / "config.json").write_text(json.dumps(config))
        (path / "model.safetensors").write_bytes(b"123")
        return path

    return make


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(str(tmp_path / "t"))
    made.create()
    return made
