"""``pubmark compare``: what another checkpoint would change, before it changes anything."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ray.exceptions import RayError

from engine.backends import backend_class
from engine.checkpoints.load import load_checkpoint
from engine.runs.cluster import connected, describe_failure
from engine.runs.figures import Reporter
from engine.runs.interrupts import Interrupts
from engine.scoring.comparison import Comparison, to_markdown
from engine.scoring.gold import read_gold
from engine.scoring.trial import measure
from engine.sources.read import read_citations
from engine.sources.shards import find_shards
from engine.steps.annotator import Annotator, make_annotator
from engine.tables.annotators import current_annotator, restore_annotator
from engine.tables.rows import count_annotators, sample
from engine.tables.store import Store
from schemas.citation import CITATION_SCHEMA
from schemas.configs.evaluate import CompareConfig
from schemas.errors import JobError, UsageError

_FILES = 8
"""A sample of files is drawn from so many of them: each is read whole."""


@dataclass(frozen=True)
class CompareResult:
    """What was found; texts that failed are counted on either side."""

    found: Comparison

    def summary(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return self.found.summary()

    def exit_code(self) -> int:
        """0, or 3 if a text failed."""
        sides = (self.found.old, self.found.new)
        return 3 if any(side and side.failed for side in sides) else 0


def run(
    config: CompareConfig, reporter: Reporter | None = None, verbose: bool = False
) -> CompareResult:
    """Run both checkpoints over the sample, the old one twice.

    What the table holds is the first run of its own checkpoint.

    Raises:
        UsageError: before anything is started.
        JobError: if the engines failed.
    """
    backend_class(config.backend)
    new = _annotator(config.checkpoint, config.entity_types)
    gold = read_gold(config.corpora, config.split, config.limit) if config.corpora else []
    old, citations = _from_table(config) if config.table else _from_sources(config)
    kinds = [t for t in new.task.entity_types if t in old.task.entity_types]
    if not kinds:
        raise UsageError(
            f"{config.checkpoint} marks {', '.join(new.task.entity_types)}, the old one "
            f"{', '.join(old.task.entity_types)}: no entity type in common"
        )
    if not len(citations) and not gold:
        raise UsageError("no citation with a text to compare on")
    with connected(verbose), Interrupts():
        try:
            return CompareResult(measure(old, new, citations, gold, config, reporter or Reporter()))
        except RayError as e:
            raise JobError(f"compare: {describe_failure(e)}") from e


def describe(result: CompareResult) -> str:
    """What stands beside the tables, for a person."""
    found = result.found
    assert found.old is not None
    lines = [
        f"{found.old.name} ({found.old.annotator}) and {found.new.name} ({found.new.annotator}) "
        f"over {found.citations:,} citations; noise is what two runs of the old one differ by"
    ]
    lines += [
        f"{side.failed:,} of {side.texts:,} texts failed with {side.name}"
        for side in (found.old, found.new)
        if side.failed
    ]
    return "\n".join(lines)


def _annotator(checkpoint: str, entity_types: list[str] | None) -> Annotator:
    made = load_checkpoint(checkpoint)
    task = made.manifest.task
    try:
        return make_annotator(made, task if entity_types is None else task.only(entity_types))
    except ValueError as e:
        raise UsageError(f"checkpoint {checkpoint}: {e}") from e


def _from_table(config: CompareConfig) -> tuple[Annotator, pa.Table]:
    """The old annotator, and rows of the table; with their mentions, if these are its own."""
    assert config.table is not None
    store = Store(config.table)
    store.check()
    table = store.load()
    fingerprint = current_annotator(store, count_annotators(table))
    if fingerprint is None:
        raise UsageError(f"{config.table}: has no rows")
    old = (
        restore_annotator(store, fingerprint)
        if config.against is None
        else _annotator(config.against, config.entity_types)
    )
    rows = sample(table, fingerprint, config.sample, config.seed)
    own = old.fingerprint == fingerprint
    return old, rows if own else rows.select(CITATION_SCHEMA.names)


def _from_sources(config: CompareConfig) -> tuple[Annotator, pa.Table]:
    assert config.against is not None
    old = _annotator(config.against, config.entity_types)
    rng = np.random.default_rng(config.seed)
    shards = find_shards(config.sources)
    chosen = [shards[i] for i in rng.permutation(len(shards))[:_FILES]]
    batches = [b for s in chosen for b in read_citations(s, batch_rows=1024)]
    rows = pa.Table.from_batches(batches, schema=CITATION_SCHEMA)
    rows = rows.filter(pc.not_equal(rows["text"], ""))
    return old, rows.take(np.sort(rng.permutation(len(rows))[: config.sample]))


__all__ = ["CompareResult", "describe", "run", "to_markdown"]
