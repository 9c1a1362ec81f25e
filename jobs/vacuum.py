"""``pubmark vacuum``: delete files that no reader needs any more, also what a crash has left."""

from dataclasses import dataclass

from engine.tables.maintenance import vacuum
from engine.tables.store import Store
from schemas.configs.tables import VacuumConfig


@dataclass(frozen=True)
class VacuumResult:
    """How many files were deleted (or would be), by table."""

    files: dict[str, int]


def run(config: VacuumConfig) -> VacuumResult:
    """Delete what is older than the retention and not part of a table, or no longer.

    Raises:
        UsageError: if there is no table of ours.
        JobError: if it cannot be written.
    """
    store = Store(config.to)
    store.check()
    store.require()
    return VacuumResult(vacuum(store, config.retention_hours, config.dry_run))
