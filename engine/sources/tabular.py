"""Parquet and JSONL with ``pmid``, ``title`` and ``abstract`` to citations.

Enters: the bytes of a file. Leaves: citations and rejected rows in file order. Left to others:
which of several rows of a PMID counts.

The columns of the annotations table that describe a citation (``version``, ``pub_year``,
``journal``, ``language``, ``doi``, ``publication_types``) are taken over where the file has them. A
value of theirs that does not fit is left out, counted and told at the end: it is no reason to lose
the text. Names of columns count in any case.
"""

import gzip
import json
import logging
import re
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.storage.zipped import unzip
from schemas.citation import Citation, Rejection, lay_out_text
from schemas.errors import DamagedSource

logger = logging.getLogger(__name__)

_OPTIONAL = ("version", "pub_year", "journal", "language", "doi", "publication_types")
_COLUMNS = ("pmid", "title", "abstract", *_OPTIONAL)
_DIGITS = re.compile(r"([0-9]{1,19})(?:\.0+)?")  # pandas makes floats of whole numbers
_ROWS_PER_READ = 256
_MAX_LINE_BYTES = 16 << 20


def read_parquet(stream: IO[bytes], shown: str | None = None) -> Iterator[Citation | Rejection]:
    """Yield the rows of a Parquet file in order. What values of optional columns are left out is
    logged, if the file is ``shown`` by some name.

    Raises:
        DamagedSource: where the file can be read no further, or lacks ``pmid`` or ``title``.
    """
    number, unfit = 0, Counter[str]()
    try:
        file = pq.ParquetFile(stream)
        try:
            names = _known_names(file.schema_arrow.names)
        except ValueError as e:
            raise DamagedSource("at the start", str(e)) from e
        if missing := {"pmid", "title"} - names.keys():
            raise DamagedSource(
                "at the start",
                f"no column {', '.join(sorted(missing))}, expected pmid, title, abstract",
            )
        columns = list(names.values())
        # One row group after the other: in a batch across two, damage in the second would take the
        # rows of the first along.
        for group in range(file.num_row_groups):
            for batch in file.iter_batches(_ROWS_PER_READ, [group], columns):
                for row in _rows(batch):
                    number += 1
                    if isinstance(row, UnicodeDecodeError):
                        yield Rejection(f"row {number}", f"text is not valid UTF-8: {row}")
                    else:
                        row = {name: row[given] for name, given in names.items()}
                        yield _citation(row, f"row {number}", unfit)
        _tell(shown, unfit)
    except (pa.ArrowException, OSError) as e:
        raise DamagedSource(f"after row {number}", f"damaged Parquet: {e}") from e


def read_jsonl(stream: IO[bytes], shown: str | None = None) -> Iterator[Citation | Rejection]:
    """Yield the lines of a JSONL file (plain or gzip) in order; empty lines are passed over.

    A line that is no JSON object is rejected alone, since the next line can be read without it.
    What values of optional columns are left out is logged, if the file is ``shown`` by some name.

    Raises:
        DamagedSource: where the gzip stream breaks, or a line is longer than 16 MiB.
    """
    lines = unzip(stream)
    number, unfit = 0, Counter[str]()
    while True:
        try:
            line = lines.readline(_MAX_LINE_BYTES + 1)
        except (gzip.BadGzipFile, EOFError, zlib.error) as e:
            raise DamagedSource(f"after line {number}", f"damaged gzip: {e}") from e
        if not line:
            _tell(shown, unfit)
            return
        number += 1
        if len(line) > _MAX_LINE_BYTES:
            raise DamagedSource(f"line {number}", f"longer than {_MAX_LINE_BYTES >> 20} MiB")
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as e:
            yield Rejection(f"line {number}", f"not JSON: {e}")
            continue
        if not isinstance(row, dict):
            yield Rejection(f"line {number}", "not a JSON object")
            continue
        try:
            row = {name: row[given] for name, given in _known_names(row).items()}
        except ValueError as e:
            yield Rejection(f"line {number}", str(e))
        else:
            yield _citation(row, f"line {number}", unfit)


def _rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | UnicodeDecodeError]:
    """The rows in order; in place of one whose text is not UTF-8, the error."""
    # Arrow takes over the bytes of a string unchecked: bad ones show only when they are decoded.
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for number in range(batch.num_rows):
            try:
                yield batch.slice(number, 1).to_pylist()[0]
            except UnicodeDecodeError as e:
                yield e


def _known_names(given: Collection[str]) -> dict[str, str]:
    """The columns that are read, each with its name in the file: the very name, or else the one
    that differs from it in case only.

    Raises:
        ValueError: if there are several of the latter.
    """
    names: dict[str, str] = {}
    for column in _COLUMNS:
        alike = [column] if column in given else [n for n in given if n.lower() == column]
        if len(alike) > 1:
            raise ValueError(f"columns {', '.join(alike)}, expected one {column}")
        if alike:
            names[column] = alike[0]
    return names


def _tell(shown: str | None, unfit: Counter[str]) -> None:
    """Log what was left out of a file's optional columns."""
    for column, count in unfit.items() if shown else ():
        logger.warning(
            "%s: column %s: %d values left out, expected %s",
            shown, column, count, _EXPECTED[column],
        )  # fmt: skip


def _citation(row: dict[str, Any], place: str, unfit: Counter[str]) -> Citation | Rejection:
    pmid = _pmid(row.get("pmid"))
    if pmid is None:
        return Rejection(place, f"pmid {row.get('pmid')!r:.80}, expected a positive whole number")
    # pandas writes NaN for what is missing.
    title, abstract = (None if (v := row.get(n)) != v else v for n in ("title", "abstract"))
    for name, value in (("title", title), ("abstract", abstract)):
        if not isinstance(value, str | None):
            return Rejection(f"{place}, PMID {pmid}", f"{name} is no string: {value!r:.80}")
    text, title_length = lay_out_text(title or "", [(None, abstract or "")])
    try:
        text.encode()
    except UnicodeEncodeError as e:
        return Rejection(f"{place}, PMID {pmid}", f"text is not valid Unicode: {e}")
    extra: dict[str, Any] = {}
    for name in _OPTIONAL:
        value = row.get(name)
        if value is None or value == "" or value != value:
            continue
        if (fitting := _FITTING[name](value)) is None:
            unfit[name] += 1
        else:
            extra[name] = fitting
    return Citation(pmid, text, title_length, **extra)


def _pmid(value: object) -> int | None:
    whole = _whole(value)
    return whole if whole is not None and 0 < whole < 2**63 else None


def _small(value: object) -> int | None:
    """A whole number of 16 bits."""
    whole = _whole(value)
    return whole if whole is not None and -(2**15) <= whole < 2**15 else None


def _whole(value: object) -> int | None:
    """A whole number, also where it is written as a float or as a string of digits."""
    if isinstance(value, str) and (match := _DIGITS.fullmatch(value)):
        return int(match[1])
    # Beyond 2^53 a float no longer tells a number from the next.
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _string(value: object) -> str | None:
    """A string that can be encoded, also where it is alone in a list."""
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if not isinstance(value, str):
        return None
    return value if value.encode(errors="replace").decode() == value else None


def _strings(value: object) -> list[str] | None:
    """A list of strings; a string alone is a list of one."""
    values = [_string(v) for v in (value if isinstance(value, list) else [value])]
    return None if None in values else [v for v in values if v is not None]


_FITTING = {"version": _small, "pub_year": _small, "journal": _string, "language": _string,
            "doi": _string, "publication_types": _strings}  # fmt: skip
_EXPECTED = {"version": "a whole number", "pub_year": "a whole number", "journal": "a string",
             "language": "a string", "doi": "a string",
             "publication_types": "a list of strings"}  # fmt: skip
