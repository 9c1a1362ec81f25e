"""The figures of a stage as they come: a line of JSON each, and TensorBoard's own files."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Metrics = dict[str, Any]


class Curve:
    """``metrics.jsonl`` of one stage under ``folder``, and the event files beside it.

    A run that goes on from step N writes the lines after N again: what was there of them goes.
    """

    def __init__(self, folder: Path):
        self._file = folder / "metrics.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._rows = self.read(folder)

    @staticmethod
    def read(folder: Path) -> list[Metrics]:
        """The lines of a stage, by step; a last one that a crash cut short is left out."""
        file = folder / "metrics.jsonl"
        rows = []
        for line in file.read_text().splitlines() if file.exists() else ():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        return rows

    @contextmanager
    def follow(self, queue: Any, seen: Callable[[Metrics], None]) -> Iterator[None]:
        """Take figures from a queue while the block runs; ``seen`` is called with each."""
        thread = threading.Thread(target=self._take, args=(queue, seen), daemon=True)
        thread.start()
        try:
            yield
        finally:
            queue.put(None)
            thread.join()

    def _take(self, queue: Any, seen: Callable[[Metrics], None]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        events = SummaryWriter(str(self._folder))
        while (metrics := queue.get()) is not None:
            self._add(metrics)
            for name, value in metrics.items():
                if name != "step":
                    events.add_scalar(name, value, metrics["step"])
            seen(metrics)
        events.close()

    def _add(self, metrics: Metrics) -> None:
        if self._rows and self._rows[-1]["step"] >= metrics["step"]:
            self._rows = [r for r in self._rows if r["step"] < metrics["step"]]
            self._file.write_text("".join(json.dumps(r) + "\n" for r in self._rows))
        self._rows.append(metrics)
        with self._file.open("a") as f:
            f.write(json.dumps(metrics) + "\n")
