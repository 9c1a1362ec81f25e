"""``pubmark compare``: what another checkpoint would change, before it changes anything."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from ray.exceptions import RayError

from engine.backends import backend_class
from engine.runs.cluster import connected, describe_failure
from engine.runs.figures import Reporter
from engine.runs.interrupts import Interrupts
from engine.scoring.comparison import Comparison, to_markdown
from engine.scoring.gold import read_gold
from engine.scoring.trial import measure, sample_sources
from engine.steps.annotator import Annotator, annotator_of
from engine.tables.annotators import current_annotator, restore_annotator
from engine.tables.rows import count_annotators, sample
from engine.tables.store import Store
from schemas.citation import CITATION_SCHEMA
from schemas.configs.evaluate import CompareConfig
from schemas.errors import JobError, UsageError


@dataclass(frozen=True)
class CompareResult:
    """The comparison; each side counts the texts that failed with it."""

    found: Comparison

    def summary(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return self.found.summary()

    def exit_code(self) -> int:
        """0, or 3 if a text failed on either side."""
        sides = (self.found.old, self.found.new)
        return 3 if any(side and side.failed for side in sides) else 0


def run(
    config: CompareConfig, reporter: Reporter | None = None, verbose: bool = False
) -> CompareResult:
    """Run both checkpoints over the sample, the old one twice.

    Mentions in the table count as the first run of the checkpoint that made them.

    Raises:
        UsageError: before anything is started.
        JobError: if the engines failed.
    """
    backend_class(config.backend)
    new = annotator_of(config.checkpoint, config.entity_types, config.serving)
    gold = read_gold(config.corpora, config.split, config.limit) if config.corpora else []
    old, citations = _from_table(config, config.table) if config.table else _from_sources(config)
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
    """Notes for a person to read beside the tables."""
    comparison = result.found
    sides = [side for side in (comparison.old, comparison.new) if side]
    names = " and ".join(f"{side.name} ({side.annotator})" for side in sides)
    lines = [
        f"{names} over {comparison.citations:,} citations; noise is what two runs of the old one "
        "differ by"
    ]
    lines += [
        f"{side.failed:,} of {side.texts:,} texts failed with {side.name}"
        for side in sides
        if side.failed
    ]
    return "\n".join(lines)


def _from_table(config: CompareConfig, root: str) -> tuple[Annotator, pa.Table]:
    """The old annotator, and rows of the table, with their mentions if that annotator made them."""
    store = Store(root)
    store.require()
    table = store.load()
    fingerprint = current_annotator(store, count_annotators(table))
    if fingerprint is None:
        raise UsageError(f"{root}: has no rows")
    old = (
        restore_annotator(store, fingerprint)
        if config.against is None
        else annotator_of(config.against, config.entity_types, config.serving)
    )
    rows = sample(table, fingerprint, config.sample, config.seed)
    own = old.fingerprint == fingerprint
    return old, rows if own else rows.select(CITATION_SCHEMA.names)


def _from_sources(config: CompareConfig) -> tuple[Annotator, pa.Table]:
    """The old annotator, and citations drawn from the sources."""
    assert config.against is not None  # CompareConfig demands it where there is no table
    old = annotator_of(config.against, config.entity_types, config.serving)
    return old, sample_sources(config.sources, config.sample, config.seed)


__all__ = ["CompareResult", "describe", "run", "to_markdown"]
