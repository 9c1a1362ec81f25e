"""A tokenizer trained on the corpus, for a model that begins from nothing."""

from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

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
