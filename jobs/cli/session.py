"""What every command does around its job: logs, signals, exit codes, and printing the result.

Results go to stdout, progress and logs to stderr.
"""

import errno
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from engine.runs.interrupts import Interrupts
from engine.storage.guard import describe_exception, guard_logs
from engine.views.terminal import printable, take_any_text, to_json
from schemas.credentials import redact, redacted
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
        """The result on stdout: one JSON object, or lines for a person; without credentials."""
        if self.as_json:
            print(to_json(redacted(summary), sys.stdout))
        else:
            print(printable(redact(text)))

    def row(self, values: dict[str, Any]) -> None:
        """A row of a table on stdout, as a JSON object: as it is stored."""
        print(to_json(values, sys.stdout))

    def note(self, text: str) -> None:
        """Lines for a person beside the result, on stderr."""
        STDERR.print(printable(redact(text)), markup=False, soft_wrap=True)

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
    """Logs to stderr, SIGTERM as Ctrl-C, and the project's errors as a message and exit code.

    Nothing of it holds credentials: not the traceback of an error that is a fault of ours, either.
    """
    guard_logs()
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
    try:
        with Interrupts():
            yield
    except PubmarkError as e:
        message = printable(redact(f"pubmark: {e}"))
        STDERR.print(message, style="bold red", markup=False, soft_wrap=True)
        raise typer.Exit(e.exit_code) from None
    except KeyboardInterrupt:
        STDERR.print("pubmark: interrupted")
        raise typer.Exit(130) from None
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except Exception as e:
        if isinstance(e, OSError) and e.errno == errno.EPIPE:  # who reads stdout has had enough
            raise
        STDERR.print(printable(describe_exception(e)), markup=False, soft_wrap=True, end="")
        raise typer.Exit(1) from None


class _Printable(logging.Formatter):
    """Lines of the log, in which a terminal finds nothing to obey."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))
