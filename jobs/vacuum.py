"""``pubmark vacuum``: delete files that no reader needs any more, also what a crash has left."""

from dataclasses import dataclass

from engine.tables.store import LATER_TABLES, TABLES, Store
from schemas.configs.tables import VacuumConfig
from schemas.errors import UsageError


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
    if not store.exists():
        raise UsageError(f"{config.to}: holds no tables of pubmark")
    names = [n for n in (*TABLES, *LATER_TABLES) if store.has(n)]
    return VacuumResult({n: store.vacuum(n, config.retention_hours, config.dry_run) for n in names})
