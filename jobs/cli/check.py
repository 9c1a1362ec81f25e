"""``pubmark check``."""

from typing import TYPE_CHECKING

import typer

from jobs.cli.commands import ROOT
from jobs.cli.layout import ENGINE_FIELDS, ENGINES, MODEL, WRITING, Layout
from jobs.cli.session import Output

if TYPE_CHECKING:
    from schemas.configs.check import CheckConfig


@ROOT.command(
    "schemas.configs.check:CheckConfig",
    Layout(
        groups={MODEL: "checkpoint entity_types", ENGINES: ENGINE_FIELDS, WRITING: "to"},
        arguments={"sources": "[SOURCE]"},
        metavars={"entity_types": "TYPE,…", "to": "URI"},
    ),
)
def check(settings: "CheckConfig", output: Output) -> None:
    """Look at what a job needs before it is started: sources, target, checkpoint, disk, cluster.

    A line each, ok or what to do. Nothing is annotated; what is written to the target is removed.
    Exit code 2 if something is not well.

    Example: pubmark check s3://bucket/pubmed/ --to s3://bucket/annotations --engines 1:16
    """
    from jobs.check import describe, run

    with output.progress():
        result = run(settings, output.verbose)
    output.result(result.summary(), describe(result))
    raise typer.Exit(0 if result.ok else 2)
