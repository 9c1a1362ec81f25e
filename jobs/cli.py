"""The command line: one subcommand per job, no logic.

Results go to stdout, progress and logs to stderr. Jobs are imported when they are called, so that
``--help`` is quick.
"""

import json
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.logging import RichHandler

from schemas.configs.annotate import AnnotateConfig, ReplayConfig
from schemas.configs.corpus import CorpusImportConfig
from schemas.configs.evaluate import CompareConfig, EvaluateConfig
from schemas.configs.finetune import FinetuneConfig
from schemas.configs.load import load_config
from schemas.configs.mirror import MirrorConfig
from schemas.configs.refresh import RefreshConfig
from schemas.configs.tables import (
    ExportConfig,
    HistoryConfig,
    OptimizeConfig,
    ShowConfig,
    SqlConfig,
    VacuumConfig,
)
from schemas.errors import PubmarkError

app = typer.Typer(
    help="Annotate PubMed with biomedical entities, using a language model tuned to mark them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

corpus_app = typer.Typer(
    help="Annotated corpora: import them as examples.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
app.add_typer(corpus_app, name="corpus")

_stderr = Console(stderr=True, highlight=False)

From = Annotated[str, typer.Option("--from", help="Root of the tables: what --to named.")]
To = Annotated[str, typer.Option("--to", help="Root of the tables.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show Ray's and vLLM's logs too.")]
Backend = Annotated[
    str | None, typer.Option(help="vllm, transformers, or package.module:Class. [default: vllm]")
]
Engines = Annotated[
    str | None, typer.Option(metavar="N|MIN:MAX", help="How many engines. [default: 1]")
]
Config = Annotated[
    str | None, typer.Option(help="A YAML file with any of these; options win over it.")
]
Split = Annotated[str | None, typer.Option(help="train, dev or test. [default: test]")]
ExampleLimit = Annotated[
    int | None, typer.Option(help="Score at most so many examples of each corpus.")
]
DType = Annotated[
    str | None,
    typer.Option(help="auto, bfloat16, float16 or float32. [default: that of the weights]"),
]


@app.command()
def annotate(
    source: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, directories, globs or URIs of PubMed XML (.xml, .xml.gz), or of Parquet "
            "or JSONL with pmid, title, abstract."
        ),
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="Root of the tables: a path or a URI (s3://, gs://, az://).")
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(help="A tuned checkpoint: a directory, URI or hub id. [default: nano]"),
    ] = None,
    entity_types: Annotated[
        str | None, typer.Option(help="Which of its entity types, by comma. [default: all]")
    ] = None,
    backend: Backend = None,
    engines: Engines = None,
    limit: Annotated[int | None, typer.Option(help="Annotate at most so many citations.")] = None,
    retry: Annotated[
        str | None,
        typer.Option(metavar="STATUS,…", help="Annotate these again: failed, partial, …"),
    ] = None,
    force: Annotated[
        bool | None,
        typer.Option(
            "--force",
            help="Replace the table's task by this one: what SOURCE holds is annotated anew, the "
            "rest is removed.",
        ),
    ] = None,
    baseline: Annotated[
        bool | None,
        typer.Option(
            "--baseline",
            help="SOURCE holds a complete baseline of NLM's: remove what it no longer holds.",
        ),
    ] = None,
    strict: Annotated[
        bool | None,
        typer.Option("--strict", help="Exit 1 if a file is damaged or a record rejected."),
    ] = None,
    max_failed: Annotated[
        float | None,
        typer.Option(help="Share of citations that may fail before exit code 3. [default: 0]"),
    ] = None,
    no_text: Annotated[
        bool, typer.Option("--no-text", help="Do not store the citations' text.")
    ] = False,
    dry_run: Annotated[
        bool | None, typer.Option("--dry-run", help="Only say what would be done.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Annotate all citations of SOURCE that the table does not hold as they are now.

    Running the same command again resumes after a crash; once all is done, it does nothing.

    Exit codes: 0 done; 1 failed; 2 wrong usage, nothing started; 3 done, but a file was damaged,
    a record rejected or a citation failed; 130 interrupted, with what was finished committed.

    Examples:

        pubmark annotate pubmed26n0001.xml.gz --to annotations

        pubmark annotate s3://bucket/pubmed/ --to s3://bucket/annotations --engines 1:16

        pubmark annotate pubmed/ --to annotations --dry-run
    """
    with _session(verbose):
        given = {
            "sources": source or None,
            "to": to,
            "checkpoint": checkpoint,
            "entity_types": _split(entity_types),
            "backend": backend,
            "engines": engines,
            "limit": limit,
            "retry": _split(retry),
            "force": force,
            "baseline": baseline,
            "strict": strict,
            "max_failed": max_failed,
            "store_text": False if no_text else None,
            "dry_run": dry_run,
        }
        settings = load_config(
            AnnotateConfig, config, {k: v for k, v in given.items() if v is not None}
        )
        from jobs.annotate import describe, run
        from jobs.progress import progress_bar

        # Ray prints to stdout when an engine dies; only results go there.
        with redirect_stdout(sys.stderr), progress_bar(_stderr) as reporter:
            result = run(settings, reporter, verbose)
        print(json.dumps(result.summary()) if as_json else describe(result, settings.to))
        raise typer.Exit(result.exit_code(settings.strict, settings.max_failed))


@app.command()
def finetune(
    config: Annotated[str, typer.Option(metavar="FILE", help="The run, as YAML.")],
    to: Annotated[
        str | None, typer.Option(help="Where the checkpoint goes; wins over the file.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="The model to begin from; wins over the file.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes, each with a GPU where there are any.")
    ] = None,
    merge: Annotated[
        bool | None, typer.Option("--merge", help="Fold the adapter into its base at the end.")
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Tune a model on examples, and write a checkpoint that `annotate --checkpoint` takes.

    Killed and started again, it goes on from its last state.

    Exit codes: 0 done; 1 failed, what was kept stays; 2 wrong usage, nothing started.

    Example: pubmark finetune --config nano.yaml --to checkpoints/nano
    """
    with _session(verbose):
        given = {"to": to, "base": base, "workers": workers, "merge": merge}
        settings = load_config(
            FinetuneConfig, config, {k: v for k, v in given.items() if v is not None}
        )
        from jobs.finetune import describe, run
        from jobs.progress import training_bar

        with redirect_stdout(sys.stderr), training_bar(_stderr) as seen:
            result = run(settings, seen, verbose)
        print(json.dumps(result.summary()) if as_json else describe(result))


@app.command()
def mirror(
    kind: Annotated[
        Literal["baseline", "updates"] | None,
        typer.Argument(metavar="baseline|updates", help="Which of NLM's folders."),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="URI", help="Where the files go: a directory or a URI (s3://, gs://)."
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="URL",
            help="Base URL of another mirror, above baseline/ and updatefiles/. [default: NLM's]",
        ),
    ] = None,
    connections: Annotated[
        int | None, typer.Option(help="Files fetched at a time, 1 to 10. [default: 3]")
    ] = None,
    retries: Annotated[
        int | None,
        typer.Option(help="Attempts that bring nothing before a file is left. [default: 8]"),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Fetch at most so many files.")] = None,
    verify: Annotated[
        bool | None, typer.Option("--verify", help="Hash again every file that is there.")
    ] = None,
    dry_run: Annotated[
        bool | None, typer.Option("--dry-run", help="Only say what would be fetched.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
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
    with _session():
        given = {
            "kind": kind,
            "to": to,
            "source": source,
            "connections": connections,
            "retries": retries,
            "limit": limit,
            "verify": verify,
            "dry_run": dry_run,
        }
        settings = load_config(
            MirrorConfig, config, {k: v for k, v in given.items() if v is not None}
        )
        from jobs.mirror import describe, exit_code, progress_bar, run, summary

        with progress_bar(_stderr) as report:
            result = run(settings, report)
        print(json.dumps(summary(result)) if as_json else describe(result, settings))
        raise typer.Exit(exit_code(result))


@app.command()
def refresh(
    config: Annotated[str, typer.Option(help="A YAML file: jobs/configs/refresh.yaml is one.")],
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """One scheduled turn: fetch, annotate what is new, delete, make stale rows anew, compact.

    Safe to start every hour: with nothing to do it ends in seconds, and a turn that finds another
    one at it leaves it alone.

    Exit codes: 0 done, or nothing to do, or another turn goes on; 1 failed, what was committed
    stays; 2 wrong config, nothing started; 3 done, with problems: a file could not be had or was
    damaged, citations failed, or the checkpoint was refused; 130 interrupted. After 1, 3 and 130
    the next turn goes on from there.

    Example: pubmark refresh --config refresh.yaml
    """
    with _session(verbose):
        settings = load_config(RefreshConfig, config, {})
        from jobs.progress import progress_bar
        from jobs.refresh import describe, run

        with redirect_stdout(sys.stderr), progress_bar(_stderr) as reporter:
            result = run(settings, reporter, verbose)
        print(
            json.dumps(result.summary(), ensure_ascii=False)
            if as_json
            else describe(result, settings.to)
        )
        raise typer.Exit(result.exit_code())


@app.command()
def compare(
    checkpoint: Annotated[
        str | None, typer.Option(help="The new checkpoint: a directory, URI or hub id.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="The old one. [default: the one that made the table]")
    ] = None,
    table: Annotated[
        str | None, typer.Option("--from", help="Root of the tables whose citations are sampled.")
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(help="Or files, directories or globs of citations; may be given often."),
    ] = None,
    sample: Annotated[int | None, typer.Option(help="How many citations. [default: 500]")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the sample.")] = None,
    corpus: Annotated[
        list[str] | None, typer.Option(help="Gold examples that both are scored on as well.")
    ] = None,
    split: Split = None,
    limit: ExampleLimit = None,
    entity_types: Annotated[
        str | None, typer.Option(help="Which entity types, by comma. [default: those of both]")
    ] = None,
    backend: Backend = None,
    engines: Engines = None,
    config: Config = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Compare two checkpoints on a sample of citations: mentions added, lost and moved, by type.

    The old one runs twice, which says how much is noise: what a table holds is its first run.
    Prints Markdown.

    Exit codes: 0 done; 1 failed; 2 wrong usage, nothing started; 3 done, but a text failed.

    Examples:

        pubmark compare --checkpoint new/ --from annotations

        pubmark compare --checkpoint new/ --against old/ --source pubmed26n1400.xml.gz --json
    """
    with _session(verbose):
        given = {
            "checkpoint": checkpoint,
            "against": against,
            "table": table,
            "sources": source or None,
            "sample": sample,
            "seed": seed,
            "corpora": corpus or None,
            "split": split,
            "limit": limit,
            "entity_types": _split(entity_types),
            "backend": backend,
            "engines": engines,
        }
        settings = load_config(
            CompareConfig, config, {k: v for k, v in given.items() if v is not None}
        )
        from jobs.compare import describe, run, to_markdown
        from jobs.progress import progress_bar

        with redirect_stdout(sys.stderr), progress_bar(_stderr) as reporter:
            result = run(settings, reporter, verbose)
        _stderr.print(describe(result), markup=False, soft_wrap=True)
        print(json.dumps(result.summary()) if as_json else to_markdown(result.found))
        raise typer.Exit(result.exit_code())


@app.command()
def replay(
    to: Annotated[str | None, typer.Option(help="Root of the tables.")] = None,
    reason: Annotated[
        str | None, typer.Option(help="Only where the error says this: generate, timeout, …")
    ] = None,
    status: Annotated[
        str | None,
        typer.Option(metavar="STATUS,…", help="Which statuses. [default: failed,partial]"),
    ] = None,
    pmid: Annotated[
        list[int] | None, typer.Option(help="Only this citation; may be given several times.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Another checkpoint. [default: the table's own]")
    ] = None,
    backend: Backend = None,
    engines: Engines = None,
    dtype: DType = None,
    max_failed: Annotated[
        float | None,
        typer.Option(help="Share that may fail again before exit code 3. [default: 0]"),
    ] = None,
    dry_run: Annotated[
        bool | None, typer.Option("--dry-run", help="Only say what would be replayed.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Do citations again that failed, or failed in part, from the texts that the table holds.

    What failed, at which stage, why, and what the model wrote: `pubmark sql` has it in `failures`.

    Exit codes: 0 done; 1 failed; 2 wrong usage, or no text is stored; 3 done, but citations failed
    again or had no text; 130 interrupted, with what was finished committed.

    Examples:

        pubmark replay --to annotations --reason generate

        pubmark replay --to annotations --pmid 31452104 --backend transformers --dtype float32
    """
    with _session(verbose):
        given = {
            "to": to,
            "reason": reason,
            "status": _split(status),
            "pmids": pmid or None,
            "checkpoint": checkpoint,
            "backend": backend,
            "engines": engines,
            "dtype": dtype,
            "max_failed": max_failed,
            "dry_run": dry_run,
        }
        settings = load_config(
            ReplayConfig, config, {k: v for k, v in given.items() if v is not None}
        )
        from jobs.progress import progress_bar
        from jobs.replay import describe, run

        with redirect_stdout(sys.stderr), progress_bar(_stderr) as reporter:
            result = run(settings, reporter, verbose)
        print(json.dumps(result.summary()) if as_json else describe(result, settings.to))
        raise typer.Exit(result.exit_code(settings.max_failed))


@app.command()
def history(
    source: From,
    limit: Annotated[int, typer.Option(help="The last so many runs.")] = 20,
    as_json: Json = False,
) -> None:
    """Show what each run changed, the last first, and how many rows are of which annotator.

    A run without a known outcome has crashed, goes on, or only compacted.

    Example: pubmark history --from annotations
    """
    with _session():
        from jobs.history import describe, run, to_table

        found = run(load_config(HistoryConfig, None, {"source": source, "limit": limit}))
        if as_json:
            print(json.dumps(found.summary()))
        else:
            # Where it is not a terminal nothing is cut to a width of its own.
            Console(width=None if sys.stdout.isatty() else 200).print(to_table(found))
            print(describe(found))


@app.command()
def evaluate(
    corpus: Annotated[
        list[str] | None,
        typer.Option(
            help="Examples (Parquet, as `pubmark corpus` makes): a file, directory or glob; may be "
            "given several times."
        ),
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="A directory, URI or hub id. [default: nano]")
    ] = None,
    split: Split = None,
    limit: ExampleLimit = None,
    entity_types: Annotated[
        str | None, typer.Option(help="Which entity types to score, by comma. [default: all]")
    ] = None,
    gold: Annotated[
        str | None, typer.Option(metavar="FILE", help="Gold mentions, as PubTator or IOB.")
    ] = None,
    predictions: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Anyone's predictions for the texts of --gold."),
    ] = None,
    few_shot: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="Prompt an untuned instruction model with K examples of the training split.",
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Option(metavar="FILE", help="The task (YAML) that --few-shot asks for.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the bootstrap and of --few-shot.")] = None,
    backend: Backend = None,
    engines: Engines = None,
    dtype: DType = None,
    max_failed: Annotated[
        float | None,
        typer.Option(help="Share of texts that may fail before exit code 3. [default: 0]"),
    ] = None,
    config: Config = None,
    as_json: Json = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the scores as a Markdown table.")
    ] = False,
    verbose: Verbose = False,
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
    with _session(verbose):
        given = {
            "corpora": corpus or None,
            "checkpoint": checkpoint,
            "split": split,
            "limit": limit,
            "entity_types": _split(entity_types),
            "gold": gold,
            "predictions": predictions,
            "few_shot": few_shot,
            "task": task,
            "seed": seed,
            "backend": backend,
            "engines": engines,
            "dtype": dtype,
            "max_failed": max_failed,
        }
        settings = load_config(
            EvaluateConfig, config, {k: v for k, v in given.items() if v is not None}
        )
        from jobs.evaluate import describe, run, to_markdown, to_table
        from jobs.progress import progress_bar

        with redirect_stdout(sys.stderr), progress_bar(_stderr) as reporter:
            result = run(settings, reporter, verbose)
        _stderr.print(describe(result), markup=False, soft_wrap=True)
        if as_json:
            print(json.dumps(result.summary(), ensure_ascii=False))
        elif markdown:
            print(to_markdown(result))
        else:
            # Where it is not a terminal nothing is cut to a width of its own.
            Console(width=None if sys.stdout.isatty() else 160).print(to_table(result))
        raise typer.Exit(result.exit_code(settings.max_failed))


@corpus_app.command("import")
def corpus_import(
    file: Annotated[
        list[str] | None, typer.Argument(help="The corpus's files, folders or globs, or URIs.")
    ] = None,
    to: Annotated[str | None, typer.Option(help="The folder for the files of examples.")] = None,
    form: Annotated[
        Literal["mark", "pubtator", "bioc-xml", "bioc-json", "iob", "brat"] | None,
        typer.Option("--format", help="Of FILE. [default: told by its name]"),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--corpus", metavar="NAME", help="What to call the corpus.")
    ] = None,
    split: Annotated[
        Literal["train", "dev", "test"], typer.Option(help="Which split FILE is.")
    ] = "train",
    types: Annotated[
        str | None,
        typer.Option(
            metavar="MAP",
            help="The corpus's entity types to ours, as Own=ours,Other= (left out), or a corpus "
            "whose mapping is built in. [default: each becomes itself, in lower case]",
        ),
    ] = None,
    unit: Annotated[
        Literal["sentence", "citation"], typer.Option(help="What an example is.")
    ] = "sentence",
    tokenised: Annotated[
        bool, typer.Option("--tokenised", help="Of mark text: words stand apart (T - cell).")
    ] = False,
    dev: Annotated[
        Literal["none", "hash"],
        typer.Option(help="hash: a tenth of a train FILE's documents becomes dev."),
    ] = "none",
    root: Annotated[
        str | None, typer.Option(help="Folder or URI that the files' paths start from.")
    ] = None,
    force: Annotated[
        bool | None, typer.Option("--force", help="Replace files that are there.")
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(help="A YAML file of several corpora with their splits, instead of FILE."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make examples, for tuning and scoring, of annotated text.

    Each corpus becomes NAME.UNITs.parquet. What is damaged goes, with place and reason, to
    NAME.UNITs.quarantine.jsonl, and is counted.

    Examples:

        pubmark corpus import train.pubtator.gz --corpus Mine --types Disease=disease --to examples

        pubmark corpus import BC5CDR.xml --format bioc-xml --types BC5CDR --split test --to examples

        pubmark corpus import --config jobs/configs/corpora.yaml --to examples
    """
    with _session():
        given: dict[str, object] = {"to": to, "root": root, "force": force}
        if file:
            stem = Path(file[0]).name.split(".")[0]
            given["corpora"] = [
                {
                    "name": name or stem,
                    "files": {split: file},
                    "format": form,
                    "types": types,
                    "units": [unit],
                    "tokenised": tokenised,
                    "dev": dev,
                }
            ]
        settings = load_config(
            CorpusImportConfig, config, {k: v for k, v in given.items() if v is not None}
        )
        from jobs.corpus import describe, run

        result = run(settings)
        print(json.dumps(result.summary()) if as_json else describe(result))


@app.command()
def optimize(to: To, as_json: Json = False) -> None:
    """Put small and overlapping files together, so that updates and queries touch fewer.

    Nothing of what the table holds changes; readers and writers may go on meanwhile.

    Example: pubmark optimize --to annotations
    """
    with _session():
        from jobs.optimize import run

        result = run(load_config(OptimizeConfig, None, {"to": to}))
        if as_json:
            print(json.dumps(asdict(result)))
        else:
            print(f"{result.files_before} files, now {result.files_after}")


@app.command()
def vacuum(
    to: To,
    retention_hours: Annotated[
        int, typer.Option(help="Keep what was part of a table in the last hours.")
    ] = 168,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    as_json: Json = False,
) -> None:
    """Delete files that no longer belong to the tables, and what crashed runs have left.

    Example: pubmark vacuum --to annotations
    """
    with _session():
        from jobs.vacuum import run

        given = {"to": to, "retention_hours": retention_hours, "dry_run": dry_run}
        result = run(load_config(VacuumConfig, None, given))
        if as_json:
            print(json.dumps(asdict(result)))
        else:
            counts = ", ".join(f"{n} {count}" for n, count in result.files.items())
            print(f"files {'to delete' if dry_run else 'deleted'}: {counts}")


@app.command()
def show(
    pmid: Annotated[int, typer.Argument(help="A PMID in the table.")],
    source: From,
    as_json: Json = False,
) -> None:
    """Show one citation with its mentions highlighted.

    Example: pubmark show 99000001 --from annotations
    """
    with _session():
        from jobs.show import jsonable, render, run

        row = run(load_config(ShowConfig, None, {"pmid": pmid, "source": source}))
        console = Console(highlight=False)
        if as_json:
            print(json.dumps(jsonable(row), ensure_ascii=False))
        else:
            console.print(render(row, console))


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="A query, in DuckDB's SQL.")],
    source: From,
    form: Annotated[
        Literal["table", "csv", "jsonl"] | None,
        typer.Option("--format", help="[default: table on a terminal, csv elsewhere]"),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION|TIME", help="annotations and mentions as they were (see history)."
        ),
    ] = None,
) -> None:
    """Query the tables: views annotations, mentions (a row each), annotators, runs; and files,
    failures, rollouts where there are any.

    Examples:

        pubmark sql "SELECT entity_type, count(*) FROM mentions GROUP BY 1" --from annotations

        pubmark sql "SELECT count(*) FROM mentions" --from annotations --as-of 2026-03-01
    """
    with _session():
        from jobs.sql import run, write

        result = run(
            load_config(SqlConfig, None, {"query": query, "source": source, "as_of": as_of})
        )
        write(result, form or ("table" if sys.stdout.isatty() else "csv"), sys.stdout)


@app.command()
def export(
    source: From,
    to: Annotated[
        str,
        typer.Option(
            metavar="PATH", help="The file to make; .gz zips text formats, - writes them to stdout."
        ),
    ],
    form: Annotated[
        Literal["parquet", "jsonl", "pubtator", "bioc-json"],
        typer.Option("--format", help="parquet, jsonl: a row per mention; others: with the texts."),
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace PATH if it is there.")] = False,
    as_json: Json = False,
) -> None:
    """Write the mentions to one file, as the table is now.

    PATH appears when it is complete. One that exists is exit 2, unless --force says to replace it.

    Examples:

        pubmark export --from annotations --to mentions.parquet --format parquet

        pubmark export --from annotations --to annotations.pubtator.gz --format pubtator

        pubmark export --from annotations --to - --format jsonl | head
    """
    with _session():
        from jobs.export import describe, run

        given = {"source": source, "to": to, "format": form, "force": force}
        result = run(load_config(ExportConfig, None, given))
        _stderr.print(describe(result, to), markup=False, soft_wrap=True)
        if as_json:
            print(json.dumps(result.summary()), file=sys.stderr if to == "-" else sys.stdout)


@contextmanager
def _session(verbose: bool = False) -> Iterator[None]:
    """Logs to stderr, SIGTERM as Ctrl-C, and the project's errors as a message and exit code."""
    handler: logging.Handler
    if _stderr.is_terminal:
        handler = RichHandler(console=_stderr, show_path=False, show_level=False, markup=False)
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler])
    for name in ("engine", "jobs"):
        logging.getLogger(name).setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except PubmarkError as e:
        _stderr.print(f"pubmark: {e}", style="bold red", markup=False, soft_wrap=True)
        raise typer.Exit(e.exit_code) from None
    except KeyboardInterrupt:
        _stderr.print("pubmark: interrupted")
        raise typer.Exit(130) from None


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _split(value: str | None) -> list[str] | None:
    return None if value is None else [v.strip() for v in value.split(",") if v.strip()]


def main() -> None:
    """The ``pubmark`` command."""
    app()
