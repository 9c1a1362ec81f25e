"""What an engine loads is what the run was planned with."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import fake_backend
import pytest

from engine.backends.base import EngineSettings
from engine.checkpoints.contents import check_same, check_tokenizer, contents_of, load_same
from engine.checkpoints.load import load_checkpoint
from engine.steps.generate import EngineActor
from engine.steps.prepare import tokenizer_of
from schemas.errors import JobError

FAKE = "fake_backend:FakeBackend"
Make = Callable[[str], Path]


def weights(path: Path) -> None:
    file = path / "model.safetensors"
    file.write_bytes(bytes(b ^ 1 for b in file.read_bytes()))  # as many bytes


def config(path: Path) -> None:
    (path / "config.json").write_text((path / "config.json").read_text() + " ")


def tokenizer(path: Path) -> None:
    (path / "tokenizer.json").write_text((path / "tokenizer.json").read_text() + " ")


def stop(path: Path) -> None:
    file = path / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": 5}))


def gone(path: Path) -> None:
    (path / "model.safetensors").unlink()
    (path / "other.safetensors").write_bytes(b"123")


CHANGES: dict[str, Callable[[Path], None]] = {
    "weights": weights, "config": config, "tokenizer": tokenizer, "stop": stop, "gone": gone,
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_another_checkpoint_in_its_place_is_noticed(make_checkpoint: Make, change: str) -> None:
    path = make_checkpoint("tuned")
    expected = contents_of(load_checkpoint(str(path)))
    assert contents_of(load_same(str(path), expected)) == expected
    CHANGES[change](path)
    with pytest.raises(
        JobError, match=r"tuned on .*: is another one than the run was planned with"
    ):
        load_same(str(path), expected)
    load_same(str(path), None)


def test_a_file_that_is_gone_is_told(make_checkpoint: Make) -> None:
    path = make_checkpoint("tuned")
    checkpoint = load_checkpoint(str(path))
    expected = contents_of(checkpoint)
    (path / "config.json").unlink()
    with pytest.raises(JobError, match=r"cannot be read any more: .*config\.json"):
        check_same(checkpoint, expected)


def test_tokenizers_of_other_steps_are_checked_too(make_checkpoint: Make) -> None:
    path = make_checkpoint("tuned")
    checkpoint = load_checkpoint(str(path))
    digest = contents_of(checkpoint).tokenizer
    tokenizer_of(str(path), digest)
    check_tokenizer(checkpoint, digest)
    tokenizer(path)
    tokenizer_of.cache_clear()  # another process
    with pytest.raises(JobError, match=r"planned with \(tokenizer: found"):
        tokenizer_of(str(path), digest)


def test_an_engine_refuses_what_was_swapped_before_it_started(make_checkpoint: Make) -> None:
    path = make_checkpoint("tuned")
    settings = EngineSettings(contents=contents_of(load_checkpoint(str(path))))
    EngineActor(FAKE, str(path), settings, 0.0)
    weights(path)
    with pytest.raises(JobError, match=r"\(weights: found"):
        EngineActor(FAKE, str(path), settings, 0.0)
    EngineActor(FAKE, str(path), replace(settings, contents=None), 0.0)


def test_an_engine_refuses_what_was_swapped_while_it_loaded(
    make_checkpoint: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_checkpoint("tuned")
    settings = EngineSettings(contents=contents_of(load_checkpoint(str(path))))
    load = fake_backend.FakeBackend.__init__

    def slow(self: fake_backend.FakeBackend, *given: object) -> None:
        load(self, *given)  # type: ignore[arg-type]
        weights(path)

    monkeypatch.setattr(fake_backend.FakeBackend, "__init__", slow)
    with pytest.raises(JobError, match=r"\(weights: found"):
        EngineActor(FAKE, str(path), settings, 0.0)


def test_a_checkpoint_of_a_uri_that_moved_on_is_noticed(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBMARK_CACHE", str(tmp_path / "cache"))
    path = make_checkpoint("remote")
    expected = contents_of(load_checkpoint(path.as_uri()))
    monkeypatch.setenv("PUBMARK_CACHE", str(tmp_path / "cache of a late node"))
    load_same(path.as_uri(), expected)
    weights(path)
    shutil.rmtree(tmp_path / "cache of a late node")
    with pytest.raises(JobError, match=r"\(weights: found"):
        load_same(path.as_uri(), expected)
