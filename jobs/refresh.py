"""``pubmark refresh``: one scheduled turn.

What is here: the checks before it starts, the lock that keeps turns apart, and the result in words.
The turn itself (mirror, gate, annotate and delete, make stale rows anew, compact) is
engine/refresh/turn.py.
"""

import logging
import time
from functools import partial

from engine.backends import BACKENDS, backend_class
from engine.refresh.lock import Held, turn
from engine.refresh.turn import RefreshResult, Turn
from engine.runs.figures import Reporter
from engine.runs.run_id import new_run_id
from engine.scoring.comparison import to_markdown
from engine.sources.shards import find_shards
from engine.steps.annotator import Annotator, annotator_of
from engine.tables.annotators import refuse_other_task
from engine.tables.store import Store
from schemas.configs.refresh import RefreshConfig
from schemas.errors import Faults

logger = logging.getLogger(__name__)


def run(
    config: RefreshConfig, reporter: Reporter | None = None, verbose: bool = False
) -> RefreshResult:
    """Do what has become due since the last turn; nothing if another turn goes on.

    Raises:
        UsageError: before anything is started or written.
        JobError: if the engines or the table failed; what was committed before stays.
    """
    began = time.monotonic()
    result = RefreshResult(new_run_id())
    store, candidate = _check(config)
    try:
        lock = partial(turn, store.root, result.run_id)
        Turn(config, store, candidate, result, reporter or Reporter(), verbose, lock).take()
    except Held as e:
        result.outcome, result.holder = "held", e.holder
    except KeyboardInterrupt:
        result.outcome = "interrupted"
    result.seconds = round(time.monotonic() - began, 2)
    for problem in result.problems:
        logger.warning("%s", problem)
    return result


def describe(result: RefreshResult, target: str) -> str:
    """What a turn did, in lines for a person; ``target`` is the root of the tables."""
    if result.outcome == "held":
        return f"{result.holder} is at it; nothing was done"
    counts = {
        "fetched": "files fetched", "files": "files new", "annotated": "citations annotated",
        "revised": "with new metadata", "deleted": "deleted", "partial": "in part",
        "failed": "failed", "remade": "made anew", "compacted": "files compacted",
        "vacuumed": "files deleted",
    }  # fmt: skip
    parts = [f"{v:,} {what}" for name, what in counts.items() if (v := getattr(result, name))]
    lines = [", ".join(parts)] if parts else []
    if result.comparison:
        lines.append(to_markdown(result.comparison))
    if result.decision:
        lines.append(f"annotator {result.decision.annotator}: {result.decision.answer}")
    if result.progress and result.progress.done < result.progress.rows:
        done, rows = result.progress.done, result.progress.rows
        lines.append(
            f"{done:,} of {rows:,} rows ({done / rows:.1%}) are of annotator "
            f"{result.progress.annotator}"
        )
    lines += [f"problem: {p}" for p in result.problems]
    lines.append(f"{result.outcome}: run {result.run_id}, table {target}, {result.seconds:.1f} s")
    return "\n".join(lines)


def _check(config: RefreshConfig) -> tuple[Store, Annotator]:
    """Check the config, sources, gate, checkpoint and target before anything starts.

    Raises:
        UsageError: with all faults at once.
    """
    faults = Faults()
    store = Store(config.to)
    candidate = faults.attempt(
        lambda: annotator_of(config.checkpoint, config.entity_types, config.serving)
    )

    def check_target() -> None:
        table = store.check()
        if candidate and table:
            refuse_other_task(store, candidate, table)

    faults.attempt(check_target)
    if config.mirror is None:
        faults.attempt(lambda: find_shards(config.sources))
    if config.gate and config.gate.corpora:
        corpora = config.gate.corpora
        faults.attempt(lambda: find_shards(corpora))
    if config.backend not in BACKENDS:  # ours are known by name, and are not imported
        faults.attempt(lambda: backend_class(config.backend))
    faults.raise_any()
    assert candidate is not None
    return store, candidate


__all__ = ["RefreshResult", "describe", "run"]
