"""``pubmark finetune``."""

import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

from jobs.cli.commands import ROOT
from jobs.cli.layout import MODEL, SOURCE, WRITING, Layout
from jobs.cli.session import STDERR, Output

if TYPE_CHECKING:
    from schemas.configs.finetune import FinetuneConfig


@ROOT.command(
    "schemas.configs.finetune:FinetuneConfig",
    Layout(
        groups={
            SOURCE: "held_out dev_examples evaluate_every",
            MODEL: "base merge",
            "Workers": "workers threads sharded seed",
            WRITING: "to name description save_every",
        }
    ),
)
def finetune(settings: "FinetuneConfig", output: Output) -> None:
    """Tune a model on examples, and write a checkpoint that `annotate --checkpoint` takes.

    Killed and started again, it goes on from its last state. The task, the stages and the shape of
    a model have keys of their own, for the config file or --set; `pubmark config finetune` prints
    them all.

    Exit codes: 0 done; 1 failed, what was kept stays; 2 wrong usage, nothing started.

    Examples:

        pubmark finetune --config nano.yaml --to checkpoints/nano

        pubmark finetune --config nano.yaml --set tuning.optimisation.steps=100
    """
    from jobs.cli.progress import training_bar
    from jobs.finetune import describe, run

    with redirect_stdout(sys.stderr), training_bar(STDERR) as seen:
        result = run(settings, seen, output.verbose)
    output.result(result.summary(), describe(result))
