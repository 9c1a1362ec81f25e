"""One scheduled turn."""

from dataclasses import dataclass

from deltalake import DeltaTable

from engine.tables.rows import count_annotators


@dataclass(frozen=True, slots=True)
class Progress:
    """How many of a table's rows are of the annotator that they are to be of."""

    annotator: str
    done: int
    rows: int


def progress(table: DeltaTable, annotator: str) -> Progress:
    """How far a table has come with an annotator."""
    counts = count_annotators(table)
    return Progress(annotator, counts[annotator], counts.total())
