"""Text to token ids and back, with the span of every token.

Enters: a checkpoint's ``tokenizer.json``. Leaves: token ids with offsets, or text with the end of
each token. Left to others: prompts (engine/steps/prompts.py).

A thin layer over the ``tokenizers`` library, not over transformers: CPU tasks need a tokenizer and
nothing else, and transformers may clean up spaces, which alone would make most completions differ
from their prompts.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tokenizers import Encoding, Tokenizer
from tokenizers.decoders import DecodeStream

from schemas.errors import UsageError

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "chat_template.jinja", "chat_template.json", "tokenizer.model", "vocab.json", "merges.txt",
)  # fmt: skip
"""All that a tokenizer may consist of: what goes along where a checkpoint is written anew. Only the
first is read by pubmark."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """``text``, and where each token ends in it: token i is ``text[ends[i-1]:ends[i]]``."""

    text: str
    ends: list[int]


class PromptTokenizer:
    """Encodes templates and texts separately, so that no text can forge a special token.

    Raises:
        UsageError: if the checkpoint's ``tokenizer.json`` cannot be read.
    """

    def __init__(self, checkpoint_path: str):
        # Each of Ray's tasks has one core, for which the library's threads would only compete.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        file = str(Path(checkpoint_path) / "tokenizer.json")
        try:
            self._template = Tokenizer.from_file(file)
            self._text = Tokenizer.from_file(file)
        except Exception as e:  # the library raises nothing narrower
            raise UsageError(f"{file}: cannot be read as a tokenizer: {e}") from e
        self._text.encode_special_tokens = True
        for tokenizer in (self._template, self._text):
            tokenizer.no_truncation()
            tokenizer.no_padding()

    def encode_template(self, piece: str) -> list[int]:
        """The ids of a piece of a template, in which special tokens are read as such."""
        return self._template.encode(piece, add_special_tokens=False).ids if piece else []

    def encode_texts(self, texts: Sequence[str]) -> list[Encoding]:
        """Encodings (``ids``, ``offsets`` in code points) in which ``<mark>`` is plain text."""
        return self._text.encode_batch(list(texts), add_special_tokens=False)

    def decode(self, ids: Sequence[int]) -> Decoded:
        """The text of ``ids``, special tokens included; bytes that form no character are U+FFFD."""
        stream = DecodeStream(skip_special_tokens=False)
        step, tokenizer = stream.step, self._template
        pieces, ends, length = [], [], 0
        for token in ids:
            piece = step(tokenizer, token)
            if piece:
                pieces.append(piece)
                length += len(piece)
            ends.append(length)
        # The stream holds back text that ends in U+FFFD, as the rest of a character may follow.
        whole = tokenizer.decode(list(ids), skip_special_tokens=False) if ends and not piece else ""
        if len(whole) > length:
            pieces.append(whole[length:])
            ends[-1] = len(whole)
        return Decoded("".join(pieces), ends)


@lru_cache(maxsize=4)
def load_tokenizer(checkpoint_path: str) -> PromptTokenizer:
    """The tokenizer of a checkpoint, loaded once in a process."""
    return PromptTokenizer(checkpoint_path)
