"""The fake backend, with a line on disk for every completion: what was done twice is then known."""

import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

from fake_backend import FakeBackend

from engine.backends.base import Completion, EngineSettings
from engine.checkpoints.load import Checkpoint


class CountingBackend(FakeBackend):
    """Writes ``PMID REVISION PROMPT`` below $PUBMARK_CHAOS_COUNT, for texts of kills.py."""

    def __init__(self, checkpoint: Checkpoint, settings: EngineSettings, temperature: float):
        super().__init__(checkpoint, settings, temperature)
        path = Path(os.environ["PUBMARK_CHAOS_COUNT"]) / str(os.getpid())
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def generate(self, token_ids: Sequence[int], max_tokens: int) -> Completion:
        """See :class:`engine.backends.base.Backend`."""
        completion = await super().generate(token_ids, max_tokens)
        prompt = self._tokenizer.decode(token_ids).text
        pmid, revision = re.search(r"case (\d+)r(\d+)", prompt).groups()  # type: ignore[union-attr]
        line = f"{pmid} {revision} {zlib.crc32(prompt.encode())}\n"
        os.write(self._file, line.encode())  # one call: whole, also when killed
        return completion


class NodeBackend(CountingBackend):
    """Has a folder for each node of nodes.py, by its name in $PUBMARK_CHAOS_NODE."""

    def __init__(self, checkpoint: Checkpoint, settings: EngineSettings, temperature: float):
        folder = Path(os.environ["PUBMARK_CHAOS_COUNT"]) / os.environ["PUBMARK_CHAOS_NODE"]
        folder.mkdir(exist_ok=True)
        os.environ["PUBMARK_CHAOS_COUNT"] = str(folder)
        super().__init__(checkpoint, settings, temperature)
