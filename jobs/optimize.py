"""``pubmark optimize``: small and overlapping files into large ones, by PMID."""

from dataclasses import dataclass

from engine.tables.layout.files import stored_files
from engine.tables.maintenance import compact
from engine.tables.store import Store
from schemas.configs.tables import OptimizeConfig


@dataclass(frozen=True)
class OptimizeResult:
    """Files of the table before and after, and how many of them were taken out and put in."""

    files_before: int
    files_after: int
    removed: int
    added: int


def run(config: OptimizeConfig) -> OptimizeResult:
    """Compact the annotations table. Readers see the same rows at all times; writers may go on.

    Raises:
        UsageError: if there is no table of ours.
        JobError: if it cannot be written, or others wrote all the time.
    """
    store = Store(config.to)
    store.check()
    before = len(stored_files(store.load()))
    removed, added = compact(store, "optimize")
    return OptimizeResult(before, len(stored_files(store.load())), removed, added)
