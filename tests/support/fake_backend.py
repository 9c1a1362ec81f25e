"""A deterministic backend without a model, for tests: it marks words by rule.

Follows engine.backends.base.Backend. What it does is steered by words in the text, so that a test
writes its wish into a citation: it marks ``aspirin``, ``cancer`` and ``BRCA1`` for the type that
they are of, and answers late, fails or dies where the text says so.
"""

import asyncio
import os
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from engine.backends.base import Completion, EngineSettings
from engine.checkpoints.load import Checkpoint
from engine.checkpoints.tokenizer import load_tokenizer
from engine.codecs import CODECS
from schemas.errors import EngineDied
from schemas.spans import TypedSpan

WORDS = {
    "chemical": r"aspirin|ibuprofen|metformin|CO2|[A-Za-z]+(?:mycin|cillin|ine)\b",
    "disease": r"(?:breast |lung )?cancer|diabetes|[A-Za-z]+(?:itis|emia|osis)\b",
    "gene": r"BRCA1|TP53|\b[A-Z]{2,}[0-9]\b",
}
LOGPROB = -0.125


class FakeBackend:
    """Marks by :data:`WORDS`; every token has log-probability :data:`LOGPROB`.

    Words that steer it: ``FAILS`` raises for this prompt, ``KILLS=path=`` raises EngineDied unless
    the file exists (which the dying engine makes: so it dies once), ``KILLSALWAYS`` always,
    ``HANGS=path=`` hangs once, ``CRASHES=path=`` ends the process once, without a word.
    PUBMARK_FAKE_SECONDS is the time that a prompt takes.
    """

    def __init__(self, checkpoint: Checkpoint, settings: EngineSettings, temperature: float):
        self._tokenizer = load_tokenizer(checkpoint.tokenizer_path)
        self._codec = CODECS[checkpoint.manifest.task.codec]
        self._seconds = float(os.environ.get("PUBMARK_FAKE_SECONDS", "0"))

    async def generate(self, token_ids: Sequence[int], max_tokens: int) -> Completion:
        """See :class:`engine.backends.base.Backend`."""
        prompt = self._tokenizer.decode(token_ids).text
        asked, text = re.fullmatch(r"<s>((?:<\w+>)+)(.*)<sep>", prompt, re.DOTALL).groups()  # type: ignore[union-attr]
        # Never in the order asked: a long text answers before a short one.
        await asyncio.sleep(self._seconds + 0.02 / (1 + len(text)))
        if "KILLS" in text:
            self._die(text)
        if (hangs := re.search(r"HANGS=(.*)=", text)) and not Path(hangs[1]).exists():
            Path(hangs[1]).touch()
            time.sleep(600)  # the event loop with it
        if (crashes := re.search(r"CRASHES=(.*)=", text)) and not Path(crashes[1]).exists():
            Path(crashes[1]).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if "FAILS" in text:
            raise ValueError("told to fail")
        spans = [
            TypedSpan(*m.span(), kind)
            for kind in re.findall(r"<(\w+)>", asked)
            for m in re.finditer(WORDS[kind], text)
        ]
        ids = self._tokenizer.encode_template(self._codec.encode(text, spans))
        finish = "stop" if len(ids) <= max_tokens else "length"
        return Completion(ids[:max_tokens], [LOGPROB] * len(ids[:max_tokens]), finish)

    def _die(self, text: str) -> None:
        once = re.search(r"KILLS=(.*)=", text)
        if once is None:
            raise EngineDied("told to die")
        if not Path(once[1]).exists():
            Path(once[1]).touch()
            raise EngineDied("told to die once")

    def close(self) -> None:
        """Nothing to stop."""
