"""How a run goes on, for a person at a terminal; elsewhere the log's lines per commit do."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn

from engine.figures import Figures, Reporter


@contextmanager
def progress_bar(console: Console) -> Iterator[Reporter]:
    """A reporter that draws a bar on ``console`` if it is a terminal, and nothing otherwise."""
    if not console.is_terminal:
        yield Reporter()
        return
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[speed]}"),
        console=console,
        transient=True,
    )
    with progress:
        task = progress.add_task("planning", total=None, speed="")

        def planned(citations: int) -> None:
            progress.update(task, total=citations, description="starting engines")

        def progressed(figures: Figures) -> None:
            seconds = max(figures.generating_seconds(), 1e-9)
            speed = figures.rows / seconds
            total = progress.tasks[0].total or figures.rows
            left = _minutes((total - figures.rows) / max(speed, 1e-9))
            progress.update(
                task,
                completed=figures.rows,
                description="annotating",
                speed=f"{speed:.1f} citations/s, "
                f"{figures.completion_tokens / seconds:,.0f} tokens/s, {left} left",
            )

        yield Reporter(planned, progressed)


def _minutes(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"
