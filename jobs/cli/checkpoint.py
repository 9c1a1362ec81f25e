"""``pubmark checkpoint merge``."""

from typing import TYPE_CHECKING

from jobs.cli.commands import ROOT
from jobs.cli.layout import MODEL, WRITING, Layout
from jobs.cli.session import Output

if TYPE_CHECKING:
    from schemas.configs.checkpoint import MergeConfig

CHECKPOINT = ROOT.group("checkpoint", "Checkpoints: fold an adapter into its base.")


@CHECKPOINT.command(
    "schemas.configs.checkpoint:MergeConfig",
    Layout(groups={MODEL: "dtype", WRITING: "to"}, arguments={"checkpoint": "ADAPTER"}),
)
def merge(settings: "MergeConfig", output: Output) -> None:
    """Fold a LoRA adapter into its base: one checkpoint, which costs less to run on a CPU.

    Exit codes: 0 done; 1 failed; 2 wrong usage: no adapter, no base, or the target is there.

    Example: pubmark checkpoint merge checkpoints/mine --to checkpoints/mine-merged
    """
    from jobs.checkpoint import describe, run, summary

    result = run(settings)
    output.result(summary(result), describe(result))
