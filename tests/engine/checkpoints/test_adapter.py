"""An adapter as a checkpoint: its base is found and held against it; merging."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from engine.backends.base import EngineSettings
from engine.checkpoints.fetch import fetch_files
from engine.checkpoints.load import Checkpoint, digest_weights, load_checkpoint
from engine.checkpoints.merge import merge
from engine.scoring.few_shot import few_shot_checkpoint
from engine.steps.annotator import make_annotator
from schemas.errors import UsageError

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
    said = {
        "peft_type": "LORA", "r": 2, "lora_alpha": 8, "bias": "none", "init_lora_weights": True,
        "base_model_name_or_path": base, "target_modules": ["q_proj", "down_proj"],
    }  # fmt: skip
    (path / "adapter_config.json").write_text(json.dumps(said | config))
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
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_base(tmp_path / "base")


@pytest.fixture
def adapter(tmp_path: Path, base: Path) -> Path:
    return write_adapter(tmp_path / "adapter", "../base")


def load(path: Path | str) -> Checkpoint:
    load_checkpoint.cache_clear()
    return load_checkpoint(str(path))


def fault(path: Path | str) -> str:
    with pytest.raises(UsageError) as caught:
        load(path)
    return str(caught.value)


def test_an_adapter_is_a_checkpoint(adapter: Path, base: Path) -> None:
    found = load(adapter)
    assert (found.ref, found.path, found.tokenizer_path) == (str(adapter), str(base), str(base))
    assert found.adapter is not None
    assert (found.adapter.path, found.adapter.rank, found.adapter.scale) == (str(adapter), 2, 4)
    assert (found.stop_token_ids, found.context_tokens) == ((2,), 1024)


def test_its_own_tokenizer_and_end_tokens_go_before_those_of_the_base(
    adapter: Path, base: Path
) -> None:
    shutil.copy(base / "tokenizer.json", adapter)
    (adapter / "generation_config.json").write_text('{"eos_token_id": 7}')
    found = load(adapter)
    assert (found.tokenizer_path, found.stop_token_ids) == (str(adapter), (2, 7))


def test_the_base_by_absolute_path_or_uri(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBMARK_CACHE", str(tmp_path / "cache"))
    assert load(write_adapter(tmp_path / "absolute", str(base))).path == str(base)
    found = load(write_adapter(tmp_path / "uri", base.as_uri()))
    assert Path(found.path).is_relative_to(tmp_path / "cache")
    # All of it from a store, where it is one directory beside the other.
    beside = write_adapter(tmp_path / "beside", "../base")
    assert Path(load(beside.as_uri()).path).is_relative_to(tmp_path / "cache")


def test_the_base_is_never_taken_from_the_working_directory(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_adapter(tmp_path / "adapter", "base")
    monkeypatch.chdir(tmp_path)
    assert "base: does not exist beside the adapter" in fault(path)


@pytest.mark.parametrize("name", ["/no/such/base", "../no-such-base", "file:///no/such/base"])
def test_a_base_that_does_not_exist_is_named(tmp_path: Path, name: str) -> None:
    message = fault(write_adapter(tmp_path / "adapter", name))
    assert f"its base model: checkpoint {name}: " in message
    assert str(tmp_path / "adapter") in message


def test_an_adapter_for_another_base(tmp_path: Path, base: Path) -> None:
    wide = write_adapter(tmp_path / "wide", "../base", width=16)
    assert (
        f"base model {base}: tuned over another base than this: layers of other sizes: "
        "model.layers.0.mlp.down_proj is 8 × 12 there and 16 × 12 here and 3 more" in fault(wide)
    )
    deep = write_adapter(tmp_path / "deep", "../base", layers=3)
    assert "layers that the base does not have: model.layers.2.mlp.down_proj" in fault(deep)
    flat = write_adapter(tmp_path / "flat", "../base", layers=1)
    assert "nothing for layers that the base has: model.layers.1.mlp.down_proj" in fault(flat)
    edit(flat / "adapter_config.json", layers_to_transform=[0])
    assert load(flat).adapter


def test_nano_s_adapter_over_another_base(tmp_path: Path) -> None:
    message = fault(write_adapter(tmp_path / "adapter", "nano"))
    assert "model.layers.0.mlp.down_proj is 256 × 704 there and 8 × 12 here" in message


def test_the_digest_of_the_base_is_held_against_it(adapter: Path, base: Path) -> None:
    edit(adapter / "pubmark.json", base_digest=digest_weights(base))
    found = load(adapter)
    make_annotator(found, found.manifest.task)
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"] *= 2
    save_file(weights, base / "model.safetensors")
    with pytest.raises(UsageError, match="tuned over another base, or another version of it"):
        make_annotator(load(adapter), found.manifest.task)


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "another kind": ({"peft_type": "IA3"}, "peft_type is 'IA3', expected 'LORA'"),
    "DoRA": ({"use_dora": True}, "use_dora is True, which is not plain LoRA"),
    "ranks by layer": ({"rank_pattern": {"q_proj": 4}}, "rank_pattern is {'q_proj': 4}"),
    "whole modules": ({"modules_to_save": ["lm_head"]}, "modules_to_save is ['lm_head']"),
    "what is not known": ({"use_new_idea": 1}, "use_new_idea is 1, which is not plain LoRA"),
    "PiSSA": ({"init_lora_weights": "pissa"}, "which changes the base's weights"),
    "bias": ({"bias": "all"}, "bias is 'all', expected 'none'"),
    "rank": ({"r": 1024}, "r is 1024, expected 1 to 512"),
    "another rank": ({"r": 4}, "has an A of 2 × 12 and a B of 8 × 2; expected rank 4"),
    "no base": ({"base_model_name_or_path": None}, "names no base"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_plain_lora_is_refused(adapter: Path, name: str) -> None:
    changes, message = REFUSED[name]
    edit(adapter / "adapter_config.json", **changes)
    assert message in fault(adapter)


SPOILT: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "no matrices": (
        lambda a, b: (a / "adapter_model.safetensors").rename(a / "adapter_model.bin"),
        "no adapter_model.safetensors (found adapter_model.bin)",
    ),
    "damaged": (
        lambda a, b: (a / "adapter_model.safetensors").write_bytes(b"123"),
        "adapter_model.safetensors: ",
    ),
    "no manifest": (lambda a, b: (a / "pubmark.json").unlink(), "no pubmark.json"),
    "no JSON": (lambda a, b: (a / "adapter_config.json").write_text("{"), "adapter_config.json: E"),
    "code": (lambda a, b: (a / "m.py").touch(), "remote code"),
    "code of the base": (lambda a, b: (b / "m.py").touch(), "remote code"),
    "whole weights": (
        lambda a, b: shutil.copy(b / "model.safetensors", a),
        "has adapter_config.json and weights of its own: model.safetensors",
    ),
    "pickled base": (
        lambda a, b: (b / "model.safetensors").rename(b / "model.bin"),
        "no *.safetensors (found model.bin)",
    ),
    "damaged base": (
        lambda a, b: (b / "model.safetensors").write_bytes(b"123"),
        "base model: model.safetensors: ",
    ),
    "no tokenizer": (lambda a, b: (b / "tokenizer.json").unlink(), "no tokenizer.json"),
    "over an adapter": (
        lambda a, b: shutil.copy(a / "adapter_config.json", b),
        "its base model ../base is itself an adapter",
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_cannot_be_served_is_refused(adapter: Path, base: Path, name: str) -> None:
    spoil, message = SPOILT[name]
    spoil(adapter, base)
    assert message in fault(adapter)


def test_few_shot_prompts_are_not_for_an_adapter(adapter: Path) -> None:
    task = load(adapter).manifest.task
    with (
        pytest.raises(UsageError, match="is an adapter; expected a model that was not tuned"),
        few_shot_checkpoint(str(adapter), task, {}),
    ):
        pass
    assert fetch_files(str(adapter))[1] == adapter


def test_the_fingerprint_covers_matrices_scale_and_base(adapter: Path, base: Path) -> None:
    def fingerprint() -> str:
        found = load(adapter)
        return make_annotator(found, found.manifest.task).fingerprint

    seen = [fingerprint()]
    edit(adapter / "adapter_config.json", lora_alpha=9)
    seen.append(fingerprint())
    for file in (adapter / "adapter_model.safetensors", base / "model.safetensors"):
        save_file({n: w * 2 for n, w in load_file(file).items()}, file)
        seen.append(fingerprint())
    assert len(set(seen)) == 4
    edit(adapter / "adapter_config.json", base_model_name_or_path=str(base), lora_dropout=0.5)
    assert fingerprint() == seen[-1]


@pytest.mark.parametrize("rslora", [False, True])
def test_merging_adds_the_product_to_the_weights(
    adapter: Path, base: Path, tmp_path: Path, rslora: bool
) -> None:
    edit(adapter / "adapter_config.json", use_rslora=rslora)
    edit(adapter / "pubmark.json", base_digest=digest_weights(base))
    load_checkpoint.cache_clear()
    merged = merge(str(adapter), tmp_path / "merged")
    assert (merged.adapter, merged.path) == (None, str(tmp_path / "merged"))
    assert merged.manifest == load(adapter).manifest.model_copy(update={"base_digest": None})
    before, after = (load_file(p / "model.safetensors") for p in (base, tmp_path / "merged"))
    matrices = load_file(adapter / "adapter_model.safetensors")
    assert set(before) == set(after)
    for name, weights in before.items():
        module = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{module}.lora_A.weight" in matrices:
            product = matrices[f"{module}.lora_B.weight"] @ matrices[f"{module}.lora_A.weight"]
            expected = weights + 8 / (2**0.5 if rslora else 2) * product
            np.testing.assert_allclose(after[name], expected, rtol=1e-5)
        else:
            np.testing.assert_array_equal(after[name], weights)
    assert {p.name for p in (tmp_path / "merged").iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors", "pubmark.json",
        "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip


def test_merging_into_another_precision(adapter: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file as load_torch

    load_checkpoint.cache_clear()
    merge(str(adapter), tmp_path / "merged", "bfloat16")
    weights = load_torch(tmp_path / "merged/model.safetensors")
    assert {w.dtype for w in weights.values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "merged/config.json").read_text())["dtype"] == "bfloat16"


def test_what_cannot_be_merged_is_refused(adapter: Path, base: Path, tmp_path: Path) -> None:
    load_checkpoint.cache_clear()
    with pytest.raises(UsageError, match="nano: is no adapter"):
        merge("nano", tmp_path / "merged")
    with pytest.raises(UsageError, match="base: exists; expected a new directory"):
        merge(str(adapter), base)
    edit(base / "config.json", quantization_config={"bits": 4})
    load_checkpoint.cache_clear()
    with pytest.raises(UsageError, match="is quantised; expected plain weights"):
        merge(str(adapter), tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


SENTENCES = [
    "Aspirin inhibits COX-1 in rats and lowers the risk of colorectal cancer.",
    "BRCA1 and TP53 mutations were found in breast cancer treated with cisplatin.",
    "Mice with diabetes were given insulin for two weeks.",
    "The rabbits did not develop hypertension.",
    "Plasma lithium was measured in patients with depression.",
    "Expression of interleukin-6 was higher in old mice.",
    "No mention of anything is made in this sentence.",
    "Doxorubicin caused heart failure in rats but not in mice.",
    "Patients with asthma received theophylline or placebo.",
    "CYP2C9 variants change the dose of warfarin.",
    "Rabbits and rats were infected with influenza virus.",
    "Renal failure was seen after treatment with cyclosporine.",
]


@pytest.mark.vllm
def test_the_same_mentions_as_an_adapter_merged_and_from_peft(tmp_path: Path) -> None:
    from answers import agreement, find_mentions
    from tiny_adapter import tune_adapter

    load_checkpoint.cache_clear()
    adapter = str(tune_adapter(Path(load_checkpoint("nano").path), tmp_path / "adapter"))
    merge(adapter, tmp_path / "merged", "float32")
    runs = (
        (adapter, "transformers"),
        (adapter, "vllm"),
        (str(tmp_path / "merged"), "transformers"),
        ("nano", "transformers"),
    )
    settings = EngineSettings(dtype="float32")
    peft, vllm, merged, base = (find_mentions(*run, SENTENCES, settings) for run in runs)
    assert sum(map(len, peft)) > 10
    for other in (vllm, merged):
        assert agreement(peft, other)["mentions_of_both"] >= 0.98
        assert agreement(peft, other)["sentences_the_same"] >= 11 / 12
    # Or the adapter does nothing, and nothing was shown.
    assert agreement(peft, base)["mentions_of_both"] < 0.9
