"""``pubmark finetune``: corpora to a tuned checkpoint, on Ray Train.

A run is kept beside its checkpoint, in ``TO.run``: its data, its tokenizer, its states and its
curves. The same command again resumes it from its last state.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.checkpoints.fetch import fetch_files
from engine.runs.cluster import connected
from engine.training.curve import Curve, Metrics
from engine.training.fit import fit_stage
from engine.training.stages import (
    claim_folder,
    dev_texts,
    make_stages,
    make_tokenizer,
    prepare_data,
)
from engine.training.worker import make_model
from engine.training.write import TuningRecord, write_tuned
from schemas.configs.finetune import FinetuneConfig


@dataclass
class FinetuneResult:
    """The checkpoint's directory, and what the run did.

    ``learned_from`` and ``removed`` count, by stage, the rows learned from and those removed as
    they share something with a test split. ``loss`` is the last one. ``dev_f1`` is the best score
    on the dev split, null without one.
    """

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

    ``seen`` is called with a stage's name, metrics as they come, and its number of steps.

    Raises:
        UsageError: if anything named is missing or does not fit.
        JobError: if training failed, or the checkpoint cannot be written.
    """
    began = time.monotonic()
    to = Path(config.to).expanduser().absolute()
    folder = to.with_name(f"{to.name}.run")
    base = fetch_files(config.base)[1] if config.base is not None else None
    claim_folder(folder, config, base)
    dev = dev_texts(config)
    with connected(verbose):
        prepared = prepare_data(config, folder)
        tokenizer = base or make_tokenizer(config, folder, prepared)
        stages = make_stages(config, folder, prepared, tokenizer, base, dev)
        state: str | None = None
        for name, stage in stages.items():
            state = fit_stage(config, folder, name, replace(stage, before=state), seen)
    model = make_model(replace(stages["tuning"], before=state))
    record = TuningRecord(
        prepared=prepared,
        steps={name: stage.optimisation.steps for name, stage in stages.items()},
        curves={name: Curve.read(folder / name) for name in stages},
        parameters=sum(p.numel() for p in model.parameters()),
        seconds=round(time.monotonic() - began, 1),
    )
    write_tuned(config, model, record, tokenizer, base, to)
    return FinetuneResult(
        checkpoint=str(to),
        steps=sum(record.steps.values()),
        parameters=record.parameters,
        learned_from={stage: data.rows for stage, data in prepared.items()},
        removed={stage: sum(data.leaks.values()) for stage, data in prepared.items()},
        loss=record.loss,
        dev_f1=record.dev_f1,
        seconds=record.seconds,
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
