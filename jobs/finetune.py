"""``pubmark finetune``: corpora to a tuned checkpoint, on Ray Train.

A run is kept beside its checkpoint, in ``TO.run``: what it learns from, its tokenizer, the states
to go on from, the curves. The same command again goes on from the last state.
"""

import json
import logging
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.checkpoints.load import digest_weights, fetch_files
from engine.checkpoints.tokenizer import load_tokenizer
from engine.runs.cluster import connected, describe_failure
from engine.scoring.gold import GoldText, read_gold
from engine.training.card import write_card
from engine.training.curve import Curve, Metrics
from engine.training.data.material import (
    Encode,
    EncodeExamples,
    EncodeTexts,
    Prepared,
    held_out_texts,
    prepare_examples,
    prepare_texts,
    read_column,
    write_lexicon,
)
from engine.training.data.sequences import TEXT_TOKENS
from engine.training.data.vocabulary import task_tokens, token_id, train_tokenizer, write_tokenizer
from engine.training.resume import read_state, rescue_state
from engine.training.worker import Stage, make_model, put_weights, work
from engine.training.write import write_checkpoint
from schemas.configs.finetune import FinetuneConfig, Optimisation, Shape
from schemas.errors import JobError, UsageError
from schemas.task import CheckpointManifest

logger = logging.getLogger(__name__)

_LOG_EVERY = 10
# Settings that say how a run is carried out; with others it can be gone on with.
_SAME_RESULT = {"to", "save_every", "threads", "workers", "sharded"}


@dataclass
class FinetuneResult:
    """``checkpoint`` is the directory written. ``removed`` counts, by stage, what shared something
    with a test split. ``dev_f1`` is the best score on the dev split, null without one."""

    checkpoint: str
    steps: int
    parameters: int
    learned_from: dict[str, int]
    removed: dict[str, int]
    loss: float | None
    dev_f1: float | None
    seconds: float

    def summary(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return dict(self.__dict__)


def run(
    config: FinetuneConfig,
    seen: Callable[[str, Metrics, int], None] | None = None,
    verbose: bool = False,
) -> FinetuneResult:
    """Tune a model and write it as a checkpoint.

    ``seen`` is called with a stage's name, figures as they come, and its number of steps.

    Raises:
        UsageError: if anything named is missing or does not fit.
        JobError: if training failed, or the checkpoint cannot be written.
    """
    began = time.monotonic()
    to = Path(config.to).expanduser().absolute()
    folder = to.with_name(f"{to.name}.run")
    base = None if config.base is None else str(fetch_files(config.base)[1])
    _claim(folder, config, base)
    dev = _dev_texts(config)
    with connected(verbose):
        prepared = _prepare(config, folder)
        tokenizer = Path(base) if base else _tokenizer(config, folder, prepared)
        stages = _stages(config, folder, prepared, tokenizer, base, dev)
        before: str | None = None
        for name, stage in stages.items():
            stages[name] = stage = replace(stage, before=before)
            before = _fit(config, folder, name, stage, seen)
    curves = {name: Curve.read(folder / name) for name in stages}
    last = stages["tuning"]
    model = make_model(last)
    assert before is not None
    put_weights(model, read_state(Path(before)))
    parameters = sum(p.numel() for p in model.parameters())
    seconds = round(time.monotonic() - began, 1)
    scored = [row for row in curves["tuning"] if "dev_f1" in row]
    facts = {
        "parameters": f"{parameters:,}",
        "steps": ", ".join(f"{s.optimisation.steps:,} of {n}" for n, s in stages.items()),
        "tokens": ", ".join(f"{c[-1]['tokens']:,} of {n}" for n, c in curves.items() if c),
        "seconds, of the last call": f"{seconds:,}",
        "machine": f"{platform.machine()}, {platform.processor() or platform.system()}",
    }
    if config.base:
        facts["base"] = config.base
    # An adapter is for these weights, not for others of the same sizes.
    adapter_of = digest_weights(Path(base)) if base and config.lora and not config.merge else None
    manifest = CheckpointManifest(
        name=config.name,
        description=config.description,
        task=config.task,
        base_digest=adapter_of,
    )
    write_checkpoint(
        model, tokenizer, manifest, write_card(config, prepared, scored, facts), to, config.merge
    )
    return FinetuneResult(
        checkpoint=str(to),
        steps=sum(s.optimisation.steps for s in stages.values()),
        parameters=parameters,
        learned_from={n: p.rows for n, p in prepared.items()},
        removed={n: sum(p.leaks.values()) for n, p in prepared.items()},
        loss=curves["tuning"][-1]["loss"] if curves["tuning"] else None,
        dev_f1=max((row["dev_f1"] for row in scored), default=None),
        seconds=seconds,
    )


def describe(result: FinetuneResult) -> str:
    """The result for a person."""
    lines = [f"{result.checkpoint}: {result.parameters:,} parameters, {result.steps:,} steps"]
    for stage, rows in result.learned_from.items():
        lines.append(
            f"{stage} stage: {rows:,} rows; {result.removed[stage]:,} removed, which share "
            "something with a test split"
        )
    if result.dev_f1 is not None:
        lines.append(f"best F1 on the dev split: {100 * result.dev_f1:.1f}")
    return "\n".join(lines)


def _claim(folder: Path, config: FinetuneConfig, base: str | None) -> None:
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


def _dev_texts(config: FinetuneConfig) -> list[GoldText]:
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


def _prepare(config: FinetuneConfig, folder: Path) -> dict[str, Prepared]:
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


def _tokenizer(config: FinetuneConfig, folder: Path, prepared: dict[str, Prepared]) -> Path:
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


def _stages(
    config: FinetuneConfig,
    folder: Path,
    prepared: dict[str, Prepared],
    tokenizer: Path,
    base: str | None,
    dev: list[GoldText],
) -> dict[str, Stage]:
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


def _fit(
    config: FinetuneConfig,
    folder: Path,
    name: str,
    stage: Stage,
    seen: Callable[[str, Metrics, int], None] | None,
) -> str:
    """Run a stage, from its last state if it has one; gives where its best state is."""
    import ray
    from ray.train import CheckpointConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.util.queue import Queue

    note = folder / name / "done.json"
    if note.exists():
        return str(json.loads(note.read_text())["state"])
    gpus = ray.cluster_resources().get("GPU", 0) >= config.workers
    # One CPU is left to the tasks that read and encode: without any, nothing would come.
    spare = max(ray.cluster_resources().get("CPU", 1) - 1, 0) / config.workers
    share = float(int(spare)) if spare >= 1 else round(spare, 2)
    stage = replace(stage, rescued=rescue_state(folder / name / "states"))
    queue = Queue(actor_options={"num_cpus": 0})
    scored = bool(stage.dev)
    trainer = TorchTrainer(
        work,
        train_loop_config={"stage": stage, "queue": queue},
        scaling_config=ScalingConfig(
            num_workers=config.workers, use_gpu=gpus, resources_per_worker={"CPU": share}
        ),
        run_config=RunConfig(
            name="states",
            storage_path=str(folder / name),
            checkpoint_config=CheckpointConfig(
                num_to_keep=1 if scored else 2,
                checkpoint_score_attribute="dev_f1" if scored else None,
            ),
        ),
    )
    curve = Curve(folder / name)

    def tell(metrics: Metrics) -> None:
        if seen:
            seen(name, metrics, stage.optimisation.steps)

    try:
        with curve.follow(queue, tell):
            result = trainer.fit()
    except Exception as e:  # Ray Train raises its own, of several kinds
        raise JobError(f"{name} stage: {describe_failure(e)}") from e
    best = result.get_best_checkpoint("dev_f1", "max") if scored else None
    checkpoint = best or result.checkpoint
    if checkpoint is None:
        raise JobError(f"{name} stage: ended without a state")
    note.write_text(json.dumps({"state": checkpoint.path}))
    return str(checkpoint.path)
