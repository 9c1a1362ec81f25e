"""Marks as fake_backend does, but as the checkpoint's name says: one worse, one better.

A checkpoint is nano's files with other weights, so that its fingerprint is another. ``worse``
misses cancers, ``better`` also finds ``tumour``; ``noisy`` misses some words, and which differs
with the run; ``broken`` raises. ``RAISES=path=`` raises until the file exists.
"""

import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from fake_backend import FakeBackend

from engine.backends.base import Completion, EngineSettings
from engine.checkpoints.load import Checkpoint, load_checkpoint
from engine.checkpoints.tokenizer import load_tokenizer


def make_checkpoint(folder: Path, name: str) -> Path:
    """A directory that passes for a checkpoint of that name, and has a fingerprint of its own."""
    path = folder / name
    path.mkdir(parents=True)
    nano = Path(load_checkpoint("nano").path)
    for file in ("tokenizer.json", "generation_config.json", "config.json"):
        shutil.copy(nano / file, path)
    manifest = (nano / "pubmark.json").read_text()
    (path / "pubmark.json").write_text(
        re.sub(r'("name": )"[^"]*"', rf'\1"{name}"', manifest, count=1)
    )
    (path / "model.safetensors").write_bytes(name.encode())
    return path


class RolloutBackend(FakeBackend):
    """Follows engine.backends.base.Backend."""

    def __init__(self, checkpoint: Checkpoint, settings: EngineSettings, temperature: float):
        super().__init__(checkpoint, settings, temperature)
        self._name = checkpoint.manifest.name
        self._tokens = load_tokenizer(checkpoint.path)

    async def generate(self, token_ids: Sequence[int], max_tokens: int) -> Completion:
        """See :class:`engine.backends.base.Backend`."""
        once = re.search(r"RAISES=(.*?)=", self._tokens.decode(token_ids).text)
        if once and not Path(once[1]).exists():
            raise ValueError("told to fail")
        done = await super().generate(token_ids, max_tokens)
        text = self._tokens.decode(done.token_ids).text
        prompt = self._tokens.decode(token_ids).text
        if self._name == "broken":
            raise ValueError("told to fail")
        if self._name == "worse":
            text = re.sub(r"<disease>([^<]*cancer)</disease>", r"\1", text)
        if self._name == "better" and "<disease>" in prompt:
            text = re.sub(r"( ?\btumour\b)", r"<disease>\1</disease>", text)
        if self._name == "noisy" and time.time_ns() % 3 == 0:
            text = re.sub(r"</?(disease|chemical|gene)>", "", text)
        ids = self._tokens.encode_template(text)
        return Completion(ids, [-0.125] * len(ids), done.finish)


__all__ = ["RolloutBackend", "make_checkpoint"]
