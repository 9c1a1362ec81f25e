"""The stages of a tuning run: what each learns from, its tokenizer, where it begins."""

import json
import logging
import shutil
from pathlib import Path

from engine.checkpoints.load import digest_weights
from engine.checkpoints.tokenizer import load_tokenizer
from engine.scoring.gold import GoldText, read_gold
from engine.training.data.encode import Encode, EncodeExamples, EncodeTexts
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
from schemas.configs.finetune import FinetuneConfig, Optimisation, Shape
from schemas.errors import UsageError

logger = logging.getLogger(__name__)

_LOG_EVERY = 10


# Settings that say how a run is carried out; with others it can be gone on with.
_SAME_RESULT = {"to", "save_every", "threads", "workers", "sharded"}


def claim_folder(folder: Path, config: FinetuneConfig, base: str | None) -> None:
    """Make the run's folder, or make sure that it is this run's.

    Raises:
        UsageError: if it was begun with other settings, or from a base of other weights.
    """
    note = folder / "config.json"
    settings = config.model_dump(mode="json", exclude=_SAME_RESULT)
    digest = digest_weights(Path(base)) if base else None
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
    """The examples of the dev split that are scored on the way, evenly drawn."""
    if not config.dev_examples or "dev" in config.tuning.splits:
        return []
    try:
        texts = read_gold(config.tuning.examples, "dev")
    except UsageError:
        logger.warning("no example of the dev split: nothing is scored on the way")
        return []
    texts = [t for t in texts if t.annotated_types & set(config.task.entity_types)]
    step = max(1, len(texts) // config.dev_examples)
    return texts[::step][: config.dev_examples]


def prepare_data(config: FinetuneConfig, folder: Path) -> dict[str, Prepared]:
    """What each stage learns from, by its name, without what shares something with a test split."""
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
    """The tokenizer of a model from nothing, trained once on all that it is to read."""
    assert config.shape is not None
    target = folder / "tokenizer"
    if not target.exists():
        texts = (text for found in prepared.values() for text in read_column(found.folder))
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
    base: str | None,
    dev: list[GoldText],
) -> dict[str, Stage]:
    """The stages by name, in their order.

    Raises:
        UsageError: if the base lacks an end token, or tokens that a language stage needs.
    """
    if base is None:
        assert config.shape is not None
        begin: str | Shape = config.shape
        from tokenizers import Tokenizer

        vocabulary = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
        stop, pad = token_id(vocabulary, "</s>"), token_id(vocabulary, "<pad>")
        context = config.shape.context_tokens
    else:
        begin = base
        facts = json.loads((Path(base) / "config.json").read_text())
        eos = facts.get("eos_token_id")
        stop = eos[0] if isinstance(eos, list) else eos
        if stop is None:
            raise UsageError(f"base model {config.base}: config.json has no eos_token_id")
        pad = facts.get("pad_token_id") if facts.get("pad_token_id") is not None else stop
        context = facts.get("max_position_embeddings", 2048)

    def stage(name: str, encode: Encode, optimisation: Optimisation) -> Stage:
        tuning = name == "tuning"
        return Stage(
            folder=prepared[name].folder, encode=encode, optimisation=optimisation,
            tokenizer=str(tokenizer), pad=pad, stop=stop, begin=begin, before=None, rescued=None,
            lora=config.lora if tuning else None, task=config.task, dev=dev if tuning else [],
            context_tokens=context, evaluate_every=config.evaluate_every,
            save_every=config.save_every, log_every=_LOG_EVERY, threads=config.threads,
            sharded=config.sharded, seed=config.seed,
        )  # fmt: skip

    stages = {}
    if config.language:
        encode = load_tokenizer(str(tokenizer)).encode_template
        if missing := [t for t in TEXT_TOKENS if len(encode(t)) != 1]:
            raise UsageError(
                f"base model {config.base}: its tokenizer has no {', '.join(missing)}; a language "
                f"stage needs the tokens {', '.join(TEXT_TOKENS)}, which models made here have"
            )
        texts = EncodeTexts(
            str(tokenizer), config.language.max_tokens, config.language.restore, config.seed
        )
        stages["language"] = stage("language", texts, config.language.optimisation)
    tuning = config.tuning
    lexicon = folder / "lexicon.json"
    if tuning.variation.replace and not lexicon.exists():
        write_lexicon(prepared["tuning"].folder, tuning.weights, lexicon)
    examples = EncodeExamples(config.task, str(tokenizer), stop, tuning, config.seed, str(lexicon))
    stages["tuning"] = stage("tuning", examples, tuning.optimisation)
    return stages
