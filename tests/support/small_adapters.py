"""Bases and LoRA adapters of a few numbers, real ones to all that does not run them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from engine.checkpoints.load import Checkpoint, load_checkpoint

MODULES = ("self_attn.q_proj", "mlp.down_proj")
COLUMNS = {"self_attn.q_proj": 8, "mlp.down_proj": 12}


def write_base(path: Path, layers: int = 2, width: int = 8) -> Path:
    """A directory that passes for a model, with weights of a few numbers."""
    source = Path(load_checkpoint("nano").path)
    path.mkdir()
    for file in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(source / file, path)
    config = {"model_type": "llama", "eos_token_id": 2, "max_position_embeddings": 1024}
    (path / "config.json").write_text(json.dumps(config))
    numbers = np.random.default_rng(0)
    weights = {"model.norm.weight": np.ones(width, np.float32)}
    for layer in range(layers):
        for module in MODULES:
            shape = (width, COLUMNS[module])
            weights[f"model.layers.{layer}.{module}.weight"] = numbers.random(shape, np.float32)
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    return path


def write_adapter(path: Path, base: str, layers: int = 2, width: int = 8, **config: Any) -> Path:
    path.mkdir()
    shutil.copy(Path(load_checkpoint("nano").path) / "pubmark.json", path)
    settings = {
        "peft_type": "LORA", "r": 2, "lora_alpha": 8, "bias": "none", "init_lora_weights": True,
        "base_model_name_or_path": base, "target_modules": ["q_proj", "down_proj"],
    }  # fmt: skip
    (path / "adapter_config.json").write_text(json.dumps(settings | config))
    numbers = np.random.default_rng(1)
    matrices = {}
    for layer in range(layers):
        for module in MODULES:
            name = f"base_model.model.model.layers.{layer}.{module}"
            matrices[f"{name}.lora_A.weight"] = numbers.random((2, COLUMNS[module]), np.float32)
            matrices[f"{name}.lora_B.weight"] = numbers.random((width, 2), np.float32)
    save_file(matrices, path / "adapter_model.safetensors")
    return path


def edit(file: Path, **changes: object) -> None:
    """Set keys of a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def load(path: Path | str) -> Checkpoint:
    """The checkpoint as it is on disk now."""
    load_checkpoint.cache_clear()
    return load_checkpoint(str(path))
