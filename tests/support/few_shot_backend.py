"""Answers few-shot prompts by rule: marks what the prompt's own examples mark, and ``fever``."""

import re
from collections.abc import Sequence

from engine.backends.base import Completion, EngineSettings
from engine.checkpoints.load import Checkpoint
from engine.checkpoints.tokenizer import load_tokenizer


class FewShotBackend:
    """Follows engine.backends.base.Backend; says more after the line, as such models do."""

    def __init__(self, checkpoint: Checkpoint, settings: EngineSettings, temperature: float):
        self._tokenizer = load_tokenizer(checkpoint.tokenizer_path)
        self._stop = set(checkpoint.stop_token_ids)

    async def generate(self, token_ids: Sequence[int], max_tokens: int) -> Completion:
        """See :class:`engine.backends.base.Backend`."""
        prompt = self._tokenizer.decode(token_ids).text
        *_, text = re.findall(r"Input:\n(.*)\nOutput:", prompt)
        words = {"fever", *re.findall(r"<mark>(.*?)</mark>", prompt.split("Input:", 1)[1])}
        for word in sorted(words, key=len):
            text = text.replace(word, f"<mark>{word}</mark>")
        ids = self._tokenizer.encode_template(f"{text}\nInput:\nmore of it")
        end = next((i for i, t in enumerate(ids) if t in self._stop), len(ids))
        return Completion(ids[:end], [-0.5] * end, "stop")

    def close(self) -> None:
        """Nothing to stop."""
