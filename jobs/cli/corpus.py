"""``pubmark corpus import``."""

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from jobs.cli.commands import ROOT, Part
from jobs.cli.layout import SOURCE, WRITING, Layout
from jobs.cli.session import Output
from schemas.credentials import without_credentials
from schemas.errors import UsageError

if TYPE_CHECKING:
    from schemas.configs.corpus import CorpusImportConfig

CORPUS = ROOT.group("corpus", "Annotated corpora: import them as examples.")


def _one_corpus(given: dict[str, Any], file: list[str] | None, split: str) -> dict[str, Any] | None:
    """The corpus that FILE and its options describe."""
    if file:
        name = PurePosixPath(without_credentials(file[0])).name.split(".")[0]
        return {"name": name, "files": {split: file}} | given
    if given:
        raise UsageError(f"{', '.join(given)}: says what FILE is, and none is given")
    return None


@CORPUS.command(
    "schemas.configs.corpus:CorpusImportConfig",
    Layout(groups={SOURCE: "root", WRITING: "to force"}),
    name="import",
    part=Part(
        "corpora",
        "schemas.configs.corpus:CorpusSource",
        Layout(
            groups={"Corpus": "name format types units tokenised dev dev_block_lines lines_of"},
            spelled={"name": "--corpus", "units": "--unit"},
            metavars={"name": "NAME", "types": "MAP"},
        ),
        _one_corpus,
    ),
)
def corpus_import(
    settings: "CorpusImportConfig",
    output: Output,
    *,
    file: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", help="The corpus's files, folders or globs, or URIs."),
    ] = None,
    split: Annotated[
        Literal["train", "dev", "test"],
        typer.Option(help="Which split FILE is.", rich_help_panel="Corpus"),
    ] = "train",
) -> None:
    """Make examples, for tuning and scoring, of annotated text.

    Each corpus becomes NAME.UNITs.parquet. What is damaged goes, with place and reason, to
    NAME.UNITs.quarantine.jsonl, and is counted. Several corpora with their splits: --config.

    Exit codes: 0 done; 2 wrong usage, or nothing of a corpus became an example, and nothing is
    written; 3 done, but nothing of one of the files became an example.

    Examples:

        pubmark corpus import train.pubtator.gz --corpus Mine --types Disease=disease --to examples

        pubmark corpus import BC5CDR.xml --format bioc-xml --types BC5CDR --split test --to examples

        pubmark corpus import --config jobs/configs/corpora.yaml --to examples
    """
    from jobs.corpus import describe, notes, run

    result = run(settings)
    for note in notes(result):
        output.note(note)
    output.result(result.summary(), describe(result))
    raise typer.Exit(result.exit_code())
