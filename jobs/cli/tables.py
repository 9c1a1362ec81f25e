"""What reads or tidies the tables: history, status, sql, show, export, optimize, vacuum."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.console import Console

from engine.views.terminal import to_json
from jobs.cli.commands import ROOT
from jobs.cli.layout import OUTPUT, SOURCE, WRITING, Layout
from jobs.cli.session import Output

if TYPE_CHECKING:
    from schemas.configs.tables import (
        ExportConfig,
        HistoryConfig,
        OptimizeConfig,
        ShowConfig,
        SqlConfig,
        StatusConfig,
        VacuumConfig,
    )

_FROM = {"source": "--from"}
_TABLE_WIDTH = 200


@ROOT.command(
    "schemas.configs.tables:HistoryConfig", Layout(groups={SOURCE: "source limit"}, spelled=_FROM)
)
def history(settings: "HistoryConfig", output: Output) -> None:
    """Show what each run changed, the last first, and how many rows are of which annotator.

    A run without a known outcome has crashed, goes on, or only compacted.

    Example: pubmark history --from annotations
    """
    from jobs.history import describe, run, to_table

    result = run(settings)
    if not output.as_json:
        output.table(to_table(result), _TABLE_WIDTH)
    output.result(result.summary(), describe(result))


@ROOT.command(
    "schemas.configs.tables:StatusConfig", Layout(groups={SOURCE: "source"}, spelled=_FROM)
)
def status(settings: "StatusConfig", output: Output) -> None:
    """Show what goes on in a table, from any machine that can read it: runs under way, how far they
    are, how fast, and how long they will take.

    Example: pubmark status --from s3://bucket/annotations
    """
    from jobs.status import describe, run

    result = run(settings)
    output.result(result.summary(), describe(result))


@ROOT.command(
    "schemas.configs.tables:SqlConfig",
    Layout(
        groups={SOURCE: "source as_of unlocked", OUTPUT: "format"},
        spelled=_FROM,
        arguments={"query": "QUERY"},
        metavars={"as_of": "VERSION|TIME"},
    ),
    prints_json=False,
)
def sql(settings: "SqlConfig", output: Output) -> None:
    """Query the tables: views annotations, mentions (a row each), annotators, runs; and files,
    failures, rollouts where there are any.

    A query reads these and nothing else: no files, no network, no settings, unless --unlocked.

    Examples:

        pubmark sql "SELECT entity_type, count(*) FROM mentions GROUP BY 1" --from annotations

        pubmark sql "SELECT count(*) FROM mentions" --from annotations --as-of 2026-03-01
    """
    from jobs.sql import run, write

    form = settings.format or ("table" if sys.stdout.isatty() else "csv")
    write(run(settings), form, sys.stdout)


@ROOT.command(
    "schemas.configs.tables:ShowConfig",
    Layout(groups={SOURCE: "source"}, spelled=_FROM, arguments={"pmid": "PMID"}),
)
def show(settings: "ShowConfig", output: Output) -> None:
    """Show one citation with its mentions highlighted.

    Example: pubmark show 99000001 --from annotations
    """
    from jobs.show import jsonable, render, run

    row = run(settings)
    if output.as_json:
        output.row(jsonable(row))
    else:
        console = Console(highlight=False)
        console.print(render(row, console))


@ROOT.command(
    "schemas.configs.tables:ExportConfig",
    Layout(
        groups={SOURCE: "source", WRITING: "to format force"},
        spelled=_FROM,
        metavars={"to": "PATH"},
    ),
)
def export(settings: "ExportConfig", output: Output) -> None:
    """Write the mentions to one file, as the table is now.

    The file appears when it is complete. One that exists is exit 2, unless --force says to replace
    it.

    Examples:

        pubmark export --from annotations --to mentions.parquet --format parquet

        pubmark export --from annotations --to annotations.pubtator.gz --format pubtator

        pubmark export --from annotations --to - --format jsonl | head
    """
    from jobs.export import describe, run

    result = run(settings)
    output.note(describe(result, settings.to))
    if output.as_json:  # stdout may be the file
        out = sys.stderr if settings.to == "-" else sys.stdout
        print(to_json(result.summary(), out), file=out)


@ROOT.command("schemas.configs.tables:OptimizeConfig", Layout(groups={WRITING: "to"}))
def optimize(settings: "OptimizeConfig", output: Output) -> None:
    """Put small and overlapping files together, so that updates and queries touch fewer; also those
    of the tables beside annotations.

    Nothing of what the tables hold changes; readers and writers may go on meanwhile.

    Example: pubmark optimize --to annotations
    """
    from jobs.optimize import run

    result = run(settings)
    output.result(asdict(result), f"{result.files_before} files, now {result.files_after}")


@ROOT.command(
    "schemas.configs.tables:VacuumConfig",
    Layout(groups={WRITING: "to retention_hours", OUTPUT: "dry_run"}),
)
def vacuum(settings: "VacuumConfig", output: Output) -> None:
    """Delete files that no longer belong to the tables, and what crashed runs have left.

    Example: pubmark vacuum --to annotations
    """
    from jobs.vacuum import run

    result = run(settings)
    counts = ", ".join(f"{n} {count}" for n, count in result.files.items())
    done = "to delete" if settings.dry_run else "deleted"
    output.result(asdict(result), f"files {done}: {counts}")
