"""``pubmark evaluate`` and ``pubmark compare``."""

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.commands import ROOT
from jobs.cli.layout import ENGINE_FIELDS, ENGINES, MODEL, OUTPUT, SOURCE, Layout
from jobs.cli.session import Output

if TYPE_CHECKING:
    from schemas.configs.evaluate import CompareConfig, EvaluateConfig

_TABLE_WIDTH = 160


@ROOT.command(
    "schemas.configs.evaluate:EvaluateConfig",
    Layout(
        groups={
            SOURCE: "corpora split limit gold predictions",
            MODEL: "checkpoint entity_types few_shot task",
            ENGINES: ENGINE_FIELDS,
            OUTPUT: "seed replicates max_failed",
        },
        spelled={"corpora": "--corpus"},
        metavars={"gold": "FILE", "predictions": "FILE", "task": "FILE", "few_shot": "K"},
    ),
)
def evaluate(
    settings: "EvaluateConfig",
    output: Output,
    *,
    markdown: Annotated[
        bool,
        typer.Option(
            "--markdown", help="Print the scores as a Markdown table.", rich_help_panel=OUTPUT
        ),
    ] = False,
) -> None:
    """Score a checkpoint over gold text, or a file of predictions.

    Gold text goes through the pipeline that `annotate` uses. Exact span and type, micro-averaged,
    is the headline; beside it overlap and ±1 character, by type and corpus.

    Exit codes: 0 done; 1 failed; 2 wrong usage, nothing started; 3 done, but a text failed.

    Examples:

        pubmark evaluate --corpus corpora/ --checkpoint nano

        pubmark evaluate --corpus corpora/ncbi.parquet --few-shot 5 --checkpoint some/model

        pubmark evaluate --gold test.pubtator --predictions mine.pubtator --markdown
    """
    from jobs.evaluate import describe, run, to_markdown, to_table

    with output.progress() as reporter:
        result = run(settings, reporter, output.verbose)
    output.note(describe(result))
    if output.as_json or markdown:
        output.result(result.summary(), to_markdown(result))
    else:
        output.table(to_table(result), _TABLE_WIDTH)
    raise typer.Exit(result.exit_code(settings.max_failed))


@ROOT.command(
    "schemas.configs.evaluate:CompareConfig",
    Layout(
        groups={
            SOURCE: "table sources sample seed corpora split limit",
            MODEL: "checkpoint against entity_types",
            ENGINES: ENGINE_FIELDS,
        },
        spelled={"table": "--from", "sources": "--source", "corpora": "--corpus"},
    ),
)
def compare(settings: "CompareConfig", output: Output) -> None:
    """Compare two checkpoints on a sample of citations: mentions added, lost and moved, by type.

    The old one runs twice, which says how much is noise: what a table holds is its first run.
    Prints Markdown.

    Exit codes: 0 done; 1 failed; 2 wrong usage, nothing started; 3 done, but a text failed.

    Examples:

        pubmark compare --checkpoint new/ --from annotations

        pubmark compare --checkpoint new/ --against old/ --source pubmed26n1400.xml.gz --json
    """
    from jobs.compare import describe, run, to_markdown

    with output.progress() as reporter:
        result = run(settings, reporter, output.verbose)
    output.note(describe(result))
    output.result(result.summary(), to_markdown(result.found))
    raise typer.Exit(result.exit_code())
