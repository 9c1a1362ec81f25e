"""A tokenizer trained on the corpus, for a model that begins from nothing."""

import json
import re
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from engine.codecs import CODECS
from schemas.task import Task

CONTROL = ("<unk>", "<s>", "</s>", "<pad>", "<sep>", "<blank>")
"""Special tokens of every vocabulary made here; ``<blank>`` stands for words left out."""


def train_tokenizer(
    texts: Iterable[str], vocabulary_size: int, special_tokens: Sequence[str]
) -> Tokenizer:
    """Byte-level BPE: any text comes back as it was, and no character is unknown.

    Words are cut at spaces, between letters and digits and at punctuation before merges are
    learned, so that a mention within ``T-cell`` begins at a token. ``special_tokens`` (the markers
    of entity types) come after :data:`CONTROL`, before all others.
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
    """What of a task's template and codec should be single tokens: all that stands in ``<…>``."""
    template = "".join("".join(task.pieces([name])) for name in task.entity_types)
    markers = CODECS[task.codec].markers(list(task.entity_types))
    found = [*re.findall(r"</?\w+>", template), *chain.from_iterable(markers)]
    return [t for t in dict.fromkeys(found) if t not in CONTROL]


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of a token that a tokenizer made here has.

    Raises:
        KeyError: if it has it not.
    """
    if (found := tokenizer.token_to_id(token)) is None:
        raise KeyError(token)
    return found


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write ``tokenizer.json`` and what transformers wants beside it."""
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
