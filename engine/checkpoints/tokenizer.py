"""Text to token ids and back, with the place of every token.

A thin layer over the ``tokenizers`` library, not over transformers: CPU tasks need a tokenizer and
nothing else, and no clean-up of spaces can creep in, which alone would make most completions differ
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


@dataclass(frozen=True, slots=True)
class Decoded:
    """``text`` and, for each token, where it ends in it; tokens[i] is text[ends[i-1]:ends[i]]."""

    text: str
    ends: list[int]


class PromptTokenizer:
    """Encodes templates and texts apart, so that no text can forge a special token.

    Raises:
        UsageError: if the checkpoint's ``tokenizer.json`` cannot be read.
    """

    def __init__(self, checkpoint_path: str):
        # Ray's tasks have a core each; the library's own threads would only fight over it.
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
        """Ids of a piece of a template; special tokens in it are meant as such."""
        return self._template.encode(piece, add_special_tokens=False).ids if piece else []

    def encode_texts(self, texts: Sequence[str]) -> list[Encoding]:
        """Encodings (``ids``, ``offsets`` in code points) in which ``<mark>`` is mere text."""
        return self._text.encode_batch(list(texts), add_special_tokens=False)

    def decode(self, ids: Sequence[int]) -> Decoded:
        """The text of ``ids``, special tokens included; bytes of no character are U+FFFD."""
        stream = DecodeStream(skip_special_tokens=False)
        step, tokenizer = stream.step, self._template
        pieces, ends, length = [], [], 0
        for token in ids:
            piece = step(tokenizer, token)
            if piece:
                pieces.append(piece)
                length += len(piece)
            ends.append(length)
        # The stream holds back what ends in U+FFFD, in case the rest of a character follows.
        whole = tokenizer.decode(list(ids), skip_special_tokens=False) if ends and not piece else ""
        if len(whole) > length:
            pieces.append(whole[length:])
            ends[-1] = len(whole)
        return Decoded("".join(pieces), ends)


@lru_cache(maxsize=4)
def load_tokenizer(checkpoint_path: str) -> PromptTokenizer:
    """The tokenizer of a checkpoint, loaded once in a process."""
    return PromptTokenizer(checkpoint_path)
