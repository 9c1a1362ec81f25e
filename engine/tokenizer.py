"""Text to token ids and back, with the place of every token.

A thin layer over the ``tokenizers`` library, not over transformers: CPU tasks need a tokenizer and
nothing else, and no clean-up of spaces can creep in, which alone would make most completions differ
from their prompts.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from tokenizers import Encoding, Tokenizer
from tokenizers.decoders import DecodeStream


@dataclass(frozen=True, slots=True)
class Decoded:
    """``text`` and, for each token, where it ends in it; tokens[i] is text[ends[i-1]:ends[i]]."""

    text: str
    ends: list[int]


class PromptTokenizer:
    """Encodes templates and texts apart, so that no text can forge a special token."""

    def __init__(self, checkpoint_path: str):
        # Ray's tasks have a core each; the library's own threads would only fight over it.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        file = os.path.join(checkpoint_path, "tokenizer.json")
        self._template = Tokenizer.from_file(file)
        self._text = Tokenizer.from_file(file)
        self._text.encode_special_tokens = True
        for tokenizer in (self._template, self._text):
            tokenizer.no_truncation()
            tokenizer.no_padding()

    def encode_template(self, piece: str) -> list[int]:
        """Ids of a piece of a template; special tokens in it are meant as such."""
        return self._template.encode(piece, add_special_tokens=False).ids if piece else []

    def encode_texts(self, texts: Sequence[str]) -> list[Encoding]:
        """Encodings (``ids``, ``offsets`` in code points) in which ``<mark>`` is mere text."""
        return self._text.encode_batch(list(texts), add_special_tokens=False)

    def decode(self, ids: Sequence[int]) -> Decoded:
        """The text of ``ids``, special tokens included. A cut-off character at the end is lost."""
        stream = DecodeStream(skip_special_tokens=False)
        step, tokenizer = stream.step, self._template
        pieces, ends, length = [], [], 0
        for token in ids:
            piece = step(tokenizer, token)
            if piece:
                pieces.append(piece)
                length += len(piece)
            ends.append(length)
        return Decoded("".join(pieces), ends)


@lru_cache(maxsize=4)
def load_tokenizer(checkpoint_path: str) -> PromptTokenizer:
    """The tokenizer of a checkpoint, loaded once in a process."""
    return PromptTokenizer(checkpoint_path)
