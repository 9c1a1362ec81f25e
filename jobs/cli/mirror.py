"""``pubmark mirror``."""

from typing import TYPE_CHECKING

import typer

from jobs.cli.commands import ROOT
from jobs.cli.layout import OUTPUT, SOURCE, WRITING, Layout
from jobs.cli.session import STDERR, Output

if TYPE_CHECKING:
    from schemas.configs.mirror import MirrorConfig


@ROOT.command(
    "schemas.configs.mirror:MirrorConfig",
    Layout(
        groups={
            SOURCE: "source connections retries backoff_seconds timeout_seconds limit",
            WRITING: "to verify",
            OUTPUT: "dry_run",
        },
        spelled={"source": "--from"},
        arguments={"kind": "baseline|updates"},
        metavars={"to": "URI", "source": "URL"},
    ),
)
def mirror(settings: "MirrorConfig", output: Output) -> None:
    """Copy NLM's files, each with its .md5 beside it; only whole ones, whose md5 agrees.

    Running it again fetches what is new or has changed, and goes on with what was interrupted.
    Files that NLM no longer lists stay: a new year's baseline needs none of the old ones, which
    can be removed once it is complete.

    Exit codes: 0 done; 1 failed (server gone, disk full), to be gone on with by the same command;
    2 wrong usage, nothing started; 3 done, but a file could not be had as published; 130
    interrupted.

    Examples:

        pubmark mirror baseline --to pubmed

        pubmark mirror updates --to s3://bucket/pubmed

        pubmark mirror updates --to pubmed --dry-run
    """
    from jobs.cli.progress import mirror_bar
    from jobs.mirror import describe, exit_code, run, summary

    with mirror_bar(STDERR) as report:
        result = run(settings, report)
    output.result(summary(result), describe(result, settings))
    raise typer.Exit(exit_code(result))
