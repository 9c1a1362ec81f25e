"""What every command does around its job: logs, signals, exit codes, and printing the result.

Results go to stdout, progress and logs to stderr.
"""

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from engine.views.terminal import printable, take_any_text, to_json
from schemas.errors import PubmarkError

if TYPE_CHECKING:
    from rich.table import Table

    from engine.runs.figures import Reporter

STDERR = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Output:
    """How a command prints: ``--json`` and ``--verbose``."""

    as_json: bool = False
    verbose: bool = False

    def result(self, summary: Any, text: str) -> None:
        """The result on stdout: one JSON object, or lines for a person."""
        print(to_json(summary, sys.stdout) if self.as_json else printable(text))

    def note(self, text: str) -> None:
        """Lines for a person beside the result, on stderr."""
        STDERR.print(printable(text), markup=False, soft_wrap=True)

    def table(self, table: "Table", width: int) -> None:
        """A table on stdout; ``width`` columns wide where that is not a terminal."""
        Console(width=None if sys.stdout.isatty() else width).print(table)

    @contextmanager
    def progress(self) -> Iterator["Reporter"]:
        """A progress bar around a job. Ray prints to stdout when an engine dies, and stdout is for
        results only: what is printed within the block goes to stderr."""
        from jobs.cli.progress import progress_bar

        with redirect_stdout(sys.stderr), progress_bar(STDERR) as reporter:
            yield reporter


@contextmanager
def session(verbose: bool = False) -> Iterator[None]:
    """Logs to stderr, SIGTERM as Ctrl-C, and the project's errors as a message and exit code."""
    take_any_text(sys.stdout, sys.stderr)
    handler: logging.Handler
    if STDERR.is_terminal:
        from rich.logging import RichHandler

        handler = RichHandler(console=STDERR, show_path=False, show_level=False, markup=False)
        handler.setFormatter(_Printable("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(_Printable("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler])
    for name in ("engine", "jobs"):
        logging.getLogger(name).setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except PubmarkError as e:
        STDERR.print(
            f"pubmark: {printable(str(e))}", style="bold red", markup=False, soft_wrap=True
        )
        raise typer.Exit(e.exit_code) from None
    except KeyboardInterrupt:
        STDERR.print("pubmark: interrupted")
        raise typer.Exit(130) from None


class _Printable(logging.Formatter):
    """Lines of the log, in which a terminal finds nothing to obey."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
