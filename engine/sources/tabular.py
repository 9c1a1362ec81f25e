"""Parquet and JSONL with ``pmid``, ``title`` and ``abstract`` to citations.

Enters: the bytes of a file. Leaves: citations and rejected rows in file order. Left to others:
which of several rows of a PMID counts.

The columns of the annotations table that describe a citation (``version``, ``pub_year``,
``journal``, ``language``, ``doi``, ``publication_types``) are taken over where the file has them.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.storage.zipped import unzip
from schemas.citation import Citation, Rejection, lay_out_text
from schemas.errors import DamagedSource

_OPTIONAL = ("version", "pub_year", "journal", "language", "doi", "publication_types")
_COLUMNS = ("pmid", "title", "abstract", *_OPTIONAL)
_ROWS_PER_READ = 256
_MAX_LINE_BYTES = 16 << 20


def read_parquet(stream: IO[bytes]) -> Iterator[Citation | Rejection]:
    """Yield the rows of a Parquet file in order.

    Raises:
        DamagedSource: where the file can be read no further, or lacks ``pmid`` or ``title``.
    """
    number = 0
    try:
        file = pq.ParquetFile(stream)
        names = set(file.schema_arrow.names)
        if missing := {"pmid", "title"} - names:
            raise DamagedSource(
                "at the start",
                f"no column {', '.join(sorted(missing))}, expected pmid, title, abstract",
            )
        columns = [c for c in _COLUMNS if c in names]
        # One row group after the other: in a batch across two, damage in the second would take the
        # rows of the first along.
        for group in range(file.num_row_groups):
            for batch in file.iter_batches(_ROWS_PER_READ, [group], columns):
                for row in _rows(batch):
                    number += 1
                    if isinstance(row, UnicodeDecodeError):
                        yield Rejection(f"row {number}", f"text is not valid UTF-8: {row}")
                    else:
                        yield _citation(row, f"row {number}")
    except (pa.ArrowException, OSError) as e:
        raise DamagedSource(f"after row {number}", f"damaged Parquet: {e}") from e


def read_jsonl(stream: IO[bytes]) -> Iterator[Citation | Rejection]:
    """Yield the lines of a JSONL file (plain or gzip) in order; empty lines are passed over.

    A line that is no JSON object is rejected alone, since the next line can be read without it.

    Raises:
        DamagedSource: where the gzip stream breaks, or a line is longer than 16 MiB.
    """
    lines = unzip(stream)
    number = 0
    while True:
        try:
            line = lines.readline(_MAX_LINE_BYTES + 1)
        except (gzip.BadGzipFile, EOFError, zlib.error) as e:
            raise DamagedSource(f"after line {number}", f"damaged gzip: {e}") from e
        if not line:
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
        if isinstance(row, dict):
            yield _citation(row, f"line {number}")
        else:
            yield Rejection(f"line {number}", "not a JSON object")


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


def _citation(row: dict[str, Any], place: str) -> Citation | Rejection:
    pmid = row.get("pmid")
    if isinstance(pmid, str) and pmid.isascii() and pmid.isdigit() and len(pmid) <= 19:
        pmid = int(pmid)
    if not isinstance(pmid, int) or isinstance(pmid, bool) or not 0 < pmid < 2**63:
        return Rejection(place, f"pmid {row.get('pmid')!r:.80}, expected a positive whole number")
    title, abstract = row.get("title"), row.get("abstract")
    for name, value in (("title", title), ("abstract", abstract)):
        if not isinstance(value, str | None):
            return Rejection(f"{place}, PMID {pmid}", f"{name} is no string: {value!r:.80}")
    text, title_length = lay_out_text(title or "", [(None, abstract or "")])
    try:
        text.encode()
    except UnicodeEncodeError as e:
        return Rejection(f"{place}, PMID {pmid}", f"text is not valid Unicode: {e}")
    extra = {name: row[name] for name in _OPTIONAL if row.get(name) not in (None, "")}
    try:
        # Row by row: Arrow would refuse a wrong type only when the whole batch is built, and it
        # converts some in silence.
        typed = pa.array([extra], _EXTRA_TYPE)[0].as_py()
        for name, value in extra.items():
            if typed[name] != value:
                raise TypeError(f"{value!r:.80} is no {_EXTRA_TYPE.field(name).type}")
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as e:
        return Rejection(f"{place}, PMID {pmid}", f"{', '.join(extra)}: {e}")
    return Citation(pmid, text, title_length, **{name: typed[name] for name in extra})


_EXTRA_TYPE = pa.struct(
    [
        ("version", pa.int16()),
        ("pub_year", pa.int16()),
        ("journal", pa.string()),
        ("language", pa.string()),
        ("doi", pa.string()),
        ("publication_types", pa.list_(pa.string())),
    ]
)
