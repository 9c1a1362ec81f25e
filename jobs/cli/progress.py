"""Progress bars for a person at a terminal; without one, the log's lines show the progress."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from engine.mirror.copying import Mirrored
from engine.runs.figures import Figures, Reporter

logger = logging.getLogger(__name__)


@contextmanager
def progress_bar(console: Console) -> Iterator[Reporter]:
    """A reporter that draws a bar on ``console`` if it is a terminal, and nothing otherwise."""
    if not console.is_terminal:
        yield Reporter()
        return
    with _bar(console) as progress:
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


@contextmanager
def training_bar(console: Console) -> Iterator[Callable[[str, dict[str, Any], int], None]]:
    """A function to call with a stage's name, its latest figures and its number of steps: it draws
    a bar on a terminal, and logs a line every 100 steps elsewhere."""
    began: dict[str, float] = {}

    def line(stage: str, metrics: dict[str, Any], steps: int) -> str:
        # The pace counts from the first step of this call: the stage may have been resumed.
        first = began.setdefault(stage, metrics["step"] - 1)
        speed = metrics["tokens"] / max(metrics["seconds"], 1e-9)
        pace = metrics["seconds"] / max(metrics["step"] - first, 1)
        scored = f", dev F1 {100 * metrics['dev_f1']:.1f}" if "dev_f1" in metrics else ""
        left = _minutes(pace * (steps - metrics["step"]))
        return f"loss {metrics['loss']:.4f}{scored}, {speed:,.0f} tokens/s, {left} left"

    if not console.is_terminal:

        def log(stage: str, metrics: dict[str, Any], steps: int) -> None:
            if metrics["step"] % 100 == 0 or metrics["step"] == steps or "dev_f1" in metrics:
                where = f"{stage} stage, step {metrics['step']:,} of {steps:,}"
                logger.info("%s: %s", where, line(stage, metrics, steps))

        yield log
        return
    with _bar(console) as progress:
        tasks: dict[str, TaskID] = {}

        def draw(stage: str, metrics: dict[str, Any], steps: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(f"{stage} stage", total=steps, speed="")
            progress.update(
                tasks[stage], completed=metrics["step"], speed=line(stage, metrics, steps)
            )

        yield draw


@contextmanager
def mirror_bar(console: Console) -> Iterator[Callable[[Mirrored], None]]:
    """A function to call with the figures so far: it draws a bar if ``console`` is a terminal, and
    does nothing elsewhere, where the log has them."""
    if not console.is_terminal:
        yield lambda _: None
        return
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    with progress:
        task = progress.add_task("listing", total=None, speed="")

        def report(result: Mirrored) -> None:
            if result.to_fetch:
                over = len(result.fetched) + len(result.failed)
                done, total, doing = over, result.to_fetch, "fetching"
            else:
                done, total, doing = result.settled, result.listed, "checking"
            seconds = progress.tasks[0].elapsed or 1e-9
            speed = f"{decimal(result.bytes)}, {decimal(round(result.bytes / seconds))}/s"
            progress.update(task, description=doing, completed=done, total=total, speed=speed)

        yield report


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[speed]}"),
        console=console,
        transient=True,
    )


def _minutes(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"
