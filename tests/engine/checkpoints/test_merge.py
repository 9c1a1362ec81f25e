"""An adapter folded into its base."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from small_adapters import edit, load

from engine.backends.base import EngineSettings
from engine.checkpoints.load import digest_weights, load_checkpoint
from engine.checkpoints.merge import merge
from schemas.errors import UsageError


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
