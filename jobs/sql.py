"""``pubmark sql``: a query over the tables, as a table for a person or lines for a program."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TextIO

import duckdb
from rich.console import Console
from rich.table import Table

from engine.views.lock import execute, refusal
from engine.views.sql import open_views
from engine.views.terminal import cell, printable, to_json
from schemas.configs.tables import SqlConfig

_ROWS_PER_FETCH = 10_000


@dataclass(frozen=True)
class QueryResult:
    """Column names, and the rows as they are fetched."""

    columns: list[str]
    rows: Iterator[tuple[Any, ...]]


def run(config: SqlConfig) -> QueryResult:
    """Run the query.

    Raises:
        UsageError: if there is no table, or DuckDB does not accept the query, or it reaches for
            more than the tables and the config does not say ``unlocked``.
    """
    db = open_views(config.source, config.as_of, config.unlocked)
    execute(db, config.query)
    return QueryResult([d[0] for d in db.description or []], _fetch(db))


def _fetch(db: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    try:
        while rows := db.fetchmany(_ROWS_PER_FETCH):
            yield from rows
    except duckdb.Error as e:
        raise refusal(e) from e


def write(result: QueryResult, form: str, out: TextIO) -> None:
    """Write rows to ``out`` as ``csv`` or ``jsonl``, streaming, or as a ``table``."""
    if form == "table":
        table = Table(header_style="bold")
        for name in result.columns:
            table.add_column(cell(name))
        for row in result.rows:
            table.add_row(*("" if v is None else cell(_plain(v)) for v in row))
        Console(file=out).print(table)
    elif form == "csv":
        # In a file every character stands as it is.
        fit = printable if out.isatty() else str
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(map(fit, result.columns))
        # Floats in full: csv writes what reads back as the same number.
        writer.writerows(
            [v if v is None or isinstance(v, float) else fit(_plain(v)) for v in row]
            for row in result.rows
        )
    else:
        for row in result.rows:
            values = dict(zip(result.columns, row, strict=True))
            out.write(to_json(values, out, default=_jsonable) + "\n")


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | dict | bytes):
        return json.dumps(value, ensure_ascii=False, default=_jsonable).strip('"')
    return str(value)


def _jsonable(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
