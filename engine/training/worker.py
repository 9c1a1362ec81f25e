"""What one worker of Ray Train does in one stage.

Enters: a stage. Leaves: states, kept by Ray Train, and metrics, sent through a queue. Left to
others: the training loop (loop.py), starting workers (fit.py) and making stages (stages.py).
"""

import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engine.checkpoints.tokenizer import load_tokenizer
from engine.scoring.gold import GoldText
from engine.training.data.batches import make_steps
from engine.training.data.encode import Encode, stream_by_ray
from engine.training.loop import Place, State, StepFigures, train
from engine.training.model import add_adapter, load_model, new_model
from engine.training.probe import count_mentions
from engine.training.resume import read_state, write_state
from schemas.configs.finetune import Lora, Optimisation, Shape
from schemas.task import Task


@dataclass(frozen=True)
class Stage:
    """One stage of a run.

    ``folder`` holds the data, ``tokenizer`` is a directory. ``begin`` is the shape of a model made
    from nothing, or a base's directory. ``before`` is the directory of the state that the stage
    begins with, left by the stage before it. ``rescued`` is the directory of this stage's own last
    state, where Ray Train no longer knows it. ``dev`` is scored every ``evaluate_every`` steps.
    """

    folder: str
    encode: Encode
    optimisation: Optimisation
    tokenizer: str
    pad: int
    stop: int
    begin: Shape | str
    task: Task
    context_tokens: int
    evaluate_every: int
    save_every: int
    log_every: int
    threads: int | None
    sharded: bool
    seed: int
    lora: Lora | None = None
    dev: list[GoldText] = field(default_factory=list)
    before: str | None = None
    rescued: str | None = None


def make_model(stage: Stage) -> Any:
    """The model that a stage begins with: new or a base, with the weights of ``before`` if any."""
    from tokenizers import Tokenizer

    if isinstance(stage.begin, str):
        model: Any = load_model(stage.begin)
    else:
        file = str(Path(stage.tokenizer) / "tokenizer.json")
        model = new_model(stage.begin, Tokenizer.from_file(file), stage.seed)
    if stage.lora:
        model = add_adapter(model, stage.lora, stage.seed)
    if stage.before:
        _put_weights(model, read_state(Path(stage.before)))
    return model


def _put_weights(model: Any, state: State) -> None:
    """Copy the weights of a state into a model."""
    import torch

    weights = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in state["weights"].items():
            weights[name].copy_(value)


def work(config: dict[str, Any]) -> None:
    """Ray Train's ``train_loop_per_worker``: ``config`` holds a ``stage``, and the ``queue`` that
    takes metrics."""
    import ray.train
    import ray.train.torch
    import torch

    stage: Stage = config["stage"]
    context = ray.train.get_context()
    device = ray.train.torch.get_device().type
    place = Place(context.get_world_rank(), context.get_world_size(), device, stage.sharded)
    # Ray would limit a worker's threads to the CPUs that it reserves.
    cores = len(os.sched_getaffinity(0)) // context.get_local_world_size()
    torch.set_num_threads(stage.threads or max(1, cores))
    model = make_model(stage)
    if not stage.sharded:
        model = model.to(device)
    state = None
    if checkpoint := ray.train.get_checkpoint():
        with checkpoint.as_directory() as folder:
            state = read_state(Path(folder))
    elif stage.rescued:
        state = read_state(Path(stage.rescued))
    settings = stage.optimisation

    def on_step(figures: StepFigures, make_state: Callable[[], State]) -> None:
        last = figures.step == settings.steps
        scored = stage.dev and (last or figures.step % stage.evaluate_every == 0)
        metrics: dict[str, Any] = asdict(figures)
        if scored and (place.sharded or place.rank == 0):
            metrics |= _score(model, stage)  # with sharded weights, all workers must generate
        if place.rank == 0 and (scored or last or figures.step % stage.log_every == 0):
            config["queue"].put(metrics)
        if scored or last or figures.step % stage.save_every == 0:
            _report(metrics, make_state, place)

    steps = make_steps(
        stream_by_ray(stage.folder, stage.encode),
        settings.batch_tokens,
        settings.window,
        settings.seed,
    )
    train(model, steps, settings, stage.pad, place, state, on_step)


def _report(metrics: dict[str, Any], make_state: Callable[[], State], place: Place) -> None:
    import ray.train

    state = make_state() if place.sharded or place.rank == 0 else None
    if state is None or place.rank:
        ray.train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_state(state, Path(folder))
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))


def _score(model: Any, stage: Stage) -> dict[str, float]:
    counts = count_mentions(
        model, load_tokenizer(stage.tokenizer), stage.task, stage.context_tokens, stage.stop,
        stage.dev,
    )  # fmt: skip
    return {
        "dev_precision": counts.precision,
        "dev_recall": counts.recall,
        "dev_f1": counts.f1,
    }
