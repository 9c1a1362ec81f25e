"""A checkpoint loaded, and what cannot be served refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.checkpoints.load import Checkpoint, load_checkpoint
from schemas.errors import UsageError

Make = Callable[[str], Path]


def edit(file: Path, **changes: object) -> None:
    """Set keys of a JSON file; ``None`` takes one away."""
    values = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({k: v for k, v in values.items() if v is not None}))


def test_the_embedded_checkpoint(nano: Checkpoint) -> None:
    assert (nano.ref, nano.manifest.name) == ("nano", "nano")
    assert list(nano.manifest.task.entity_types) == ["disease", "chemical", "gene"]
    assert (nano.stop_token_ids, nano.context_tokens) == ((2,), 1024)


def test_all_tokens_that_end_a_completion_count(make_checkpoint: Make) -> None:
    path = make_checkpoint("tuned")
    edit(path / "config.json", eos_token_id=[64, 2])
    edit(path / "generation_config.json", eos_token_id=5)
    assert load_checkpoint(str(path)).stop_token_ids == (2, 5, 64)


def _pickled(path: Path) -> None:
    (path / "model.safetensors").rename(path / "pytorch_model.bin")


def _unknown_key(path: Path) -> None:
    file = path / "pubmark.json"
    edit(file, task=json.loads(file.read_text())["task"] | {"colour": "red"})


def _no_eos(path: Path) -> None:
    edit(path / "config.json", eos_token_id=None)
    (path / "generation_config.json").unlink()


def _empty_config(path: Path) -> None:
    (path / "config.json").write_text("{}")
    (path / "generation_config.json").unlink()


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda p: (p / "pubmark.json").unlink(), "no pubmark.json"),
    "no config": (lambda p: (p / "config.json").unlink(), "no config.json"),
    "no tokenizer": (lambda p: (p / "tokenizer.json").unlink(), "no tokenizer.json"),
    "no weights": (lambda p: (p / "model.safetensors").unlink(), "no *.safetensors."),
    "pickled weights": (_pickled, "no *.safetensors (found pytorch_model.bin)"),
    "auto_map": (lambda p: edit(p / "config.json", auto_map={"AutoModel": "m.M"}), "remote code"),
    "code": (lambda p: (p / "modeling.py").touch(), "remote code"),
    "config is no JSON": (lambda p: (p / "config.json").write_text("{"), "config.json: Expecting"),
    "config is a list": (
        lambda p: (p / "config.json").write_text("[]"),
        "config.json: expected an object",
    ),
    "generation_config is no JSON": (
        lambda p: (p / "generation_config.json").write_text("{"),
        "generation_config.json: Expecting",
    ),
    "manifest is no JSON": (
        lambda p: (p / "pubmark.json").write_text("{"),
        "pubmark.json: Invalid JSON",
    ),
    "unknown key": (_unknown_key, "pubmark.json at task.colour: Extra inputs are not permitted"),
    "newer format": (
        lambda p: edit(p / "pubmark.json", format_version=2),
        "pubmark.json at format_version: Input should be 1",
    ),
    "no eos": (_no_eos, "no eos_token_id"),
    "empty config": (_empty_config, "no eos_token_id"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_served_is_refused(make_checkpoint: Make, name: str) -> None:
    spoil, message = REFUSED[name]
    path = make_checkpoint("spoilt")
    load_checkpoint(str(path))
    load_checkpoint.cache_clear()
    spoil(path)
    with pytest.raises(UsageError) as caught:
        load_checkpoint(str(path))
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_all_faults_are_named_at_once(make_checkpoint: Make) -> None:
    path = make_checkpoint("spoilt")
    _pickled(path)
    (path / "pubmark.json").unlink()
    (path / "modeling.py").touch()
    with pytest.raises(UsageError, match=r"(?s)no pubmark.*no \*\.safetensors.*remote code"):
        load_checkpoint(str(path))
