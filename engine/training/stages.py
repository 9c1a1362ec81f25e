"""What a tuning run needs before it trains: its folder, data, tokenizer and stages.

Enters: the config, and the base's directory if there is a base. Leaves: the stages, each with what
it learns from and how. Left to others: preparing data (data/material.py), running a stage (fit.py).
"""

import json
import logging
import shutil
from functools import partial
from pathlib import Path
from typing import NamedTuple

from engine.checkpoints.load import digest_weights
from engine.checkpoints.tokenizer import load_tokenizer
from engine.scoring.gold import GoldText, read_gold, with_names
from engine.training.data.encode import EncodeExamples, EncodeTexts
from engine.training.data.material import (
    Prepared,
    held_out_texts,
    prepare_examples,
    prepare_texts,
    read_column,
    write_lexicon,
)
from engine.training.data.sequences import TEXT_TOKENS
from engine.training.data.vocabulary import task_tokens, token_id, train_tokenizer, write_tokenizer
from engine.training.worker import Stage
from schemas.configs.finetune import FinetuneConfig, LanguageStage, Shape
from schemas.credentials import strip_all
from schemas.errors import UsageError

logger = logging.getLogger(__name__)

_LOG_EVERY = 10
"""Steps between two lines of metrics."""

_SAME_RESULT = {"to", "save_every", "threads", "workers", "sharded"}
"""Settings that change how a run is carried out but not its result: a run may be resumed with
others."""


def claim_folder(folder: Path, config: FinetuneConfig, base: Path | None) -> None:
    """Make the run's folder or, if it exists, make sure that it is this run's.

    Raises:
        UsageError: if the run in it was begun with other settings, or from a base of other weights.
    """
    note = folder / "config.json"
    settings = strip_all(config.model_dump(mode="json", exclude=_SAME_RESULT))
    digest = digest_weights(base) if base else None
    ours = json.dumps(settings | {"base_digest": digest}, indent=2)
    try:
        if note.exists():
            if note.read_text() != ours:
                raise UsageError(
                    f"{folder}: holds a run begun with other settings; remove it, or name another "
                    "checkpoint"
                )
            return
        folder.mkdir(parents=True, exist_ok=True)
        note.write_text(ours)
    except OSError as e:
        raise UsageError(f"{folder}: cannot be written: {e}") from e


def dev_texts(config: FinetuneConfig) -> list[GoldText]:
    """The examples of the dev split that are scored during training, drawn at even distances.

    None, if the config wants none or the dev split is learned from.
    """
    if not config.dev_examples or "dev" in config.tuning.splits:
        return []
    try:
        texts = with_names(read_gold(config.tuning.examples, "dev"), config.task.entity_types)
    except UsageError:
        logger.warning("no example of the dev split: nothing is scored on the way")
        return []
    texts = [t for t in texts if t.annotated_types & set(config.task.entity_types)]
    step = max(1, len(texts) // config.dev_examples)
    return texts[::step][: config.dev_examples]


def prepare_data(config: FinetuneConfig, folder: Path) -> dict[str, Prepared]:
    """What each stage learns from, by the stage's name, without what leaks from a test split."""
    held_out = held_out_texts([*config.tuning.examples, *config.held_out])
    prepared = {}
    if config.language:
        prepared["language"] = prepare_texts(
            config.language.texts, held_out, folder / "texts", config.seed
        )
    prepared["tuning"] = prepare_examples(
        config.tuning.examples, config.tuning.splits, held_out, folder / "examples", config.seed
    )
    return prepared


def make_tokenizer(config: FinetuneConfig, folder: Path, prepared: dict[str, Prepared]) -> Path:
    """The directory of the tokenizer for a model made from nothing.

    It is trained once, on all texts that the model will learn from.
    """
    assert config.shape is not None  # FinetuneConfig demands it where there is no base
    target = folder / "tokenizer"
    if not target.exists():
        texts = (text for data in prepared.values() for text in read_column(data.folder))
        part = folder / "tokenizer.part"
        shutil.rmtree(part, ignore_errors=True)
        write_tokenizer(
            train_tokenizer(texts, config.shape.vocabulary, task_tokens(config.task)), part
        )
        part.rename(target)
    return target


def make_stages(
    config: FinetuneConfig,
    folder: Path,
    prepared: dict[str, Prepared],
    tokenizer: Path,
    base: Path | None,
    dev: list[GoldText],
) -> dict[str, Stage]:
    """The stages by name, in the order in which they run.

    Raises:
        UsageError: if the base lacks an end token, or tokens that a language stage needs.
    """
    start = _base_start(config, base) if base else _new_start(config, tokenizer)
    stage = partial(
        Stage, begin=start.begin, stop=start.stop, pad=start.pad,
        context_tokens=start.context_tokens, tokenizer=str(tokenizer), task=config.task,
        evaluate_every=config.evaluate_every, save_every=config.save_every, log_every=_LOG_EVERY,
        threads=config.threads, sharded=config.sharded, seed=config.seed,
    )  # fmt: skip
    stages = {}
    if config.language:
        stages["language"] = stage(
            folder=prepared["language"].folder,
            encode=_encode_texts(config, config.language, tokenizer),
            optimisation=config.language.optimisation,
        )
    tuning = config.tuning
    lexicon = folder / "lexicon.json"
    if tuning.variation.replace and not lexicon.exists():
        write_lexicon(prepared["tuning"].folder, tuning.weights, lexicon)
    stages["tuning"] = stage(
        folder=prepared["tuning"].folder,
        encode=EncodeExamples(
            config.task, str(tokenizer), start.stop, tuning, config.seed, str(lexicon)
        ),
        optimisation=tuning.optimisation,
        lora=config.lora,
        dev=dev,
    )
    return stages


class _Start(NamedTuple):
    """What the model begins from (a base's directory, or a shape), the ids of its end and padding
    tokens, and the most tokens of a prompt and its completion together."""

    begin: Shape | str
    stop: int
    pad: int
    context_tokens: int


def _new_start(config: FinetuneConfig, tokenizer: Path) -> _Start:
    from tokenizers import Tokenizer

    assert config.shape is not None  # FinetuneConfig demands it where there is no base
    vocabulary = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    stop, pad = token_id(vocabulary, "</s>"), token_id(vocabulary, "<pad>")
    return _Start(config.shape, stop, pad, config.shape.context_tokens)


def _base_start(config: FinetuneConfig, base: Path) -> _Start:
    model = json.loads((base / "config.json").read_text())
    eos = model.get("eos_token_id")
    stop = eos[0] if isinstance(eos, list) else eos
    if stop is None:
        raise UsageError(f"base model {config.base}: config.json has no eos_token_id")
    pad = model.get("pad_token_id") if model.get("pad_token_id") is not None else stop
    return _Start(str(base), stop, pad, model.get("max_position_embeddings", 2048))


def _encode_texts(config: FinetuneConfig, language: LanguageStage, tokenizer: Path) -> EncodeTexts:
    encode = load_tokenizer(str(tokenizer)).encode_template
    if missing := [t for t in TEXT_TOKENS if len(encode(t)) != 1]:
        raise UsageError(
            f"base model {config.base}: its tokenizer has no {', '.join(missing)}; a language "
            f"stage needs the tokens {', '.join(TEXT_TOKENS)}, which models made here have"
        )
    return EncodeTexts(str(tokenizer), language.max_tokens, language.restore, config.seed)
