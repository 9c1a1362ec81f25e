"""A tokenizer trained on the corpus, for a model made from nothing.

Enters: texts, and a task. Leaves: a byte-level BPE tokenizer, and its directory. Left to others:
using it (checkpoints/tokenizer.py).
"""

import json
import re
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from engine.codecs import CODECS
from schemas.task import Task

CONTROL = ("<unk>", "<s>", "</s>", "<pad>", "<sep>", "<blank>")
"""Special tokens of every vocabulary trained here; ``<blank>`` stands for words left out."""


def train_tokenizer(
    texts: Iterable[str], vocabulary_size: int, special_tokens: Sequence[str]
) -> Tokenizer:
    """Train byte-level BPE: every text can be encoded and comes back unchanged.

    Before merges are learned, text is cut at spaces, at punctuation and between letters and digits,
    so that a mention within ``T-cell`` begins at a token. The ids of ``special_tokens`` (the
    markers of entity types) come after those of :data:`CONTROL`, before all others.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary_size,
            special_tokens=[*CONTROL, *special_tokens],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return tokenizer


def task_tokens(task: Task) -> list[str]:
    """The parts of a task's template and codec that should be single tokens: all ``<…>``."""
    template = "".join("".join(task.pieces([name])) for name in task.entity_types)
    markers = CODECS[task.codec].markers(list(task.entity_types))
    tokens = [*re.findall(r"</?\w+>", template), *chain.from_iterable(markers)]
    return [t for t in dict.fromkeys(tokens) if t not in CONTROL]


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of a token.

    Raises:
        KeyError: if the tokenizer does not have it.
    """
    if (number := tokenizer.token_to_id(token)) is None:
        raise KeyError(token)
    return number


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write ``tokenizer.json``, and the config that transformers needs beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
