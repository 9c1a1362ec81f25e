"""An adapter as a checkpoint: its base is found, and must be the one that it was tuned over."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file
from small_adapters import edit, load, write_adapter

from engine.checkpoints.fetch import fetch_files
from engine.checkpoints.load import digest_weights
from engine.scoring.few_shot import few_shot_checkpoint
from engine.steps.annotator import make_annotator
from schemas.errors import UsageError


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
