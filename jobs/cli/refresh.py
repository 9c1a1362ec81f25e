"""``pubmark refresh``."""

from typing import TYPE_CHECKING

import typer

from jobs.cli.commands import ROOT
from jobs.cli.layout import (
    ENGINE_FIELDS,
    ENGINES,
    MODEL,
    OUTPUT,
    SOURCE,
    WRITE_FIELDS,
    WRITING,
    Layout,
)
from jobs.cli.session import Output

if TYPE_CHECKING:
    from schemas.configs.refresh import RefreshConfig


@ROOT.command(
    "schemas.configs.refresh:RefreshConfig",
    Layout(
        groups={
            SOURCE: "sources baseline max_vanished",
            MODEL: "checkpoint entity_types slice_rows",
            ENGINES: ENGINE_FIELDS,
            WRITING: f"to {WRITE_FIELDS} compact_files retention_hours",
            OUTPUT: "max_failed",
        },
        spelled={"sources": "--source"},
    ),
)
def refresh(settings: "RefreshConfig", output: Output) -> None:
    """One scheduled turn: fetch, annotate what is new, delete, make stale rows anew, compact.

    Safe to start every hour: with nothing to do it ends in seconds, and a turn that finds another
    one at it leaves it alone. The mirror and the gate have keys of their own, for the config file
    or --set; `pubmark config refresh` prints them all.

    Exit codes: 0 done, or nothing to do, or another turn goes on; 1 failed, what was committed
    stays; 2 wrong config, nothing started; 3 done, with problems: a file could not be had or was
    damaged, citations failed, or the checkpoint was refused; 130 interrupted. After 1, 3 and 130
    the next turn goes on from there.

    Examples:

        pubmark refresh --config refresh.yaml

        pubmark refresh --config refresh.yaml --checkpoint new/ --set gate.limits.min_f1=0.8
    """
    from jobs.refresh import describe, run

    with output.progress() as reporter:
        result = run(settings, reporter, output.verbose)
    output.result(result.summary(), describe(result, settings.to))
    raise typer.Exit(result.exit_code())
