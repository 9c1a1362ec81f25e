"""``pubmark export``: the mentions as one file, for programs that do not read Delta tables."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.compute as pc

from engine.storage.whole_file import open_target
from engine.tables.store import Store
from engine.views.export import COLUMNS, scan_batches, write
from schemas.configs.tables import ExportConfig
from schemas.errors import JobError


@dataclass(slots=True)
class ExportResult:
    """How many citations were read, with mentions or without, and how many mentions written."""

    citations: int = 0
    mentions: int = 0

    def summary(self) -> dict[str, int]:
        """What ``--json`` prints."""
        return asdict(self)


def run(config: ExportConfig) -> ExportResult:
    """Write the table as it is now to one file, whole or not at all.

    Raises:
        UsageError: if there is no table, the target is taken, or the format prints the text and
            the table does not have it.
        JobError: if reading or writing failed.
    """
    result = ExportResult()
    batches = scan_batches(Store(config.source).load(), COLUMNS[config.format])
    try:
        with open_target(config.to, config.force) as out:
            write(_counted(batches, result), config.format, out, config.to.endswith(".gz"))
    except BrokenPipeError:  # who read stdout has had enough
        raise
    except OSError as e:
        raise JobError(f"{config.source} to {config.to}: {e}") from e
    return result


def _counted(batches: Iterable[pa.RecordBatch], result: ExportResult) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        result.citations += len(batch)
        result.mentions += pc.sum(pc.list_value_length(batch["mentions"])).as_py() or 0
        yield batch


def describe(result: ExportResult, to: str) -> str:
    """One line for a person."""
    where = "stdout" if to == "-" else to
    return f"{result.mentions:,} mentions of {result.citations:,} citations written to {where}"
