"""``pubmark finetune``: corpora to a tuned checkpoint, on Ray Train.

A run is kept beside its checkpoint, in ``TO.run``: what it learns from, its tokenizer, the states
to go on from, the curves. The same command again goes on from the last state.
"""

import logging
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.checkpoints.fetch import fetch_files
from engine.checkpoints.load import digest_weights
from engine.runs.cluster import connected
from engine.training.card import write_card
from engine.training.curve import Curve, Metrics
from engine.training.fit import fit_stage
from engine.training.resume import read_state
from engine.training.stages import (
    claim_folder,
    dev_texts,
    make_stages,
    make_tokenizer,
    prepare_data,
)
from engine.training.worker import make_model, put_weights
from engine.training.write import write_checkpoint
from schemas.configs.finetune import FinetuneConfig
from schemas.task import CheckpointManifest

logger = logging.getLogger(__name__)


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
    claim_folder(folder, config, base)
    dev = dev_texts(config)
    with connected(verbose):
        prepared = prepare_data(config, folder)
        tokenizer = Path(base) if base else make_tokenizer(config, folder, prepared)
        stages = make_stages(config, folder, prepared, tokenizer, base, dev)
        before: str | None = None
        for name, stage in stages.items():
            stages[name] = stage = replace(stage, before=before)
            before = fit_stage(config, folder, name, stage, seen)
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
