"""``pubmark annotate`` and ``pubmark replay``."""

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
    from schemas.configs.annotate import AnnotateConfig, ReplayConfig


@ROOT.command(
    "schemas.configs.annotate:AnnotateConfig",
    Layout(
        groups={
            SOURCE: "limit retry baseline max_vanished",
            MODEL: "checkpoint entity_types",
            ENGINES: ENGINE_FIELDS,
            WRITING: f"to force {WRITE_FIELDS}",
            OUTPUT: "dry_run strict max_failed",
        },
        arguments={"sources": "SOURCE"},
        metavars={"retry": "STATUS,…", "entity_types": "TYPE,…", "to": "URI"},
    ),
)
def annotate(settings: "AnnotateConfig", output: Output) -> None:
    """Annotate all citations of SOURCE that the table does not hold as they are now.

    Running the same command again resumes after a crash; once all is done, it does nothing.

    Exit codes: 0 done; 1 failed; 2 wrong usage, nothing started; 3 done, but a file was damaged,
    a record rejected or a citation failed; 130 interrupted, with what was finished committed.

    Examples:

        pubmark annotate pubmed26n0001.xml.gz --to annotations

        pubmark annotate s3://bucket/pubmed/ --to s3://bucket/annotations --engines 1:16

        pubmark annotate pubmed/ --to annotations --dry-run
    """
    from jobs.annotate import describe, run

    with output.progress() as reporter:
        result = run(settings, reporter, output.verbose)
    output.result(result.summary(), describe(result, settings.to))
    raise typer.Exit(result.exit_code(settings.strict, settings.max_failed))


@ROOT.command(
    "schemas.configs.annotate:ReplayConfig",
    Layout(
        groups={
            SOURCE: "status reason pmids",
            MODEL: "checkpoint",
            ENGINES: ENGINE_FIELDS,
            WRITING: f"to {WRITE_FIELDS}",
            OUTPUT: "dry_run max_failed",
        },
        spelled={"pmids": "--pmid"},
        metavars={"status": "STATUS,…", "pmids": "PMID", "to": "URI"},
    ),
)
def replay(settings: "ReplayConfig", output: Output) -> None:
    """Do citations again that failed, or failed in part, from the texts that the table holds.

    What failed, at which stage, why, and what the model wrote: `pubmark sql` has it in `failures`.

    Exit codes: 0 done; 1 failed; 2 wrong usage, or no text is stored; 3 done, but citations failed
    again or had no text; 130 interrupted, with what was finished committed.

    Examples:

        pubmark replay --to annotations --reason generate

        pubmark replay --to annotations --pmid 31452104 --backend transformers --dtype float32
    """
    from jobs.replay import describe, run

    with output.progress() as reporter:
        result = run(settings, reporter, output.verbose)
    output.result(result.summary(), describe(result, settings.to))
    raise typer.Exit(result.exit_code(settings.max_failed))
