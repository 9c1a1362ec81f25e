"""The metrics of a stage, kept as they come: one line of JSON each, and TensorBoard's files.

Enters: metrics from a queue that a worker fills. Leaves: ``metrics.jsonl`` and event files. Left to
others: what the metrics are (loop.py, worker.py).
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Metrics = dict[str, Any]
"""Numbers by name; ``step`` counts from 1."""


class Curve:
    """``metrics.jsonl`` of one stage under ``folder``, and the event files beside it.

    A run resumed from step N writes the lines after N again: the old ones are deleted.
    """

    def __init__(self, folder: Path):
        self._file = folder / "metrics.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._rows = self.read(folder)

    @staticmethod
    def read(folder: Path) -> list[Metrics]:
        """The metrics of a stage, by step; a last line that a crash cut short is left out."""
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
        """Keep metrics from a queue while the block runs; ``seen`` is called with each."""
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
