"""The documents of a BioC JSON file, in whatever its source wraps them.

Enters: a file's bytes. Leaves: documents, as JSON has them. Left to others: what a document holds
(bioc.py).

NCBI's services give BioC JSON in three forms: PubTator 3 an object ``{"PubTator3": [document]}``,
BioC-PMC a list of collections, and PubTator Central a document a line. A collection and a single
document are read too, and so is any of these within another.
"""

import io
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import IO, Any

from engine.corpora.formats.texts import Fault
from schemas.errors import DamagedSource

_SPACE = " \t\r\n"
_LINES_TRIED = 100
"""By so many lines it is told whether a file has a value a line."""


def documents_of(stream: IO[bytes]) -> Iterator[Any]:
    """Yield what stands in place of documents, in order.

    Of a file with a value a line, a line that is not JSON costs itself: its fault is yielded.

    Raises:
        DamagedSource: if the file is not JSON, or holds no documents.
    """
    data = stream.read()
    values: Iterable[Any]
    try:
        values = [json.loads(data)]
    except (ValueError, RecursionError) as e:
        values = _lines(data) if _is_by_line(data) else _values(data, e)
    found = False
    for value in values:
        for document in [value] if isinstance(value, Fault) else _unwrap(value, is_whole=True):
            found = True
            yield document
    if not found:
        raise DamagedSource("at the start", "no documents, expected a BioC collection")


def _unwrap(value: Any, is_whole: bool = False) -> Iterator[Any]:
    """The documents within a value. What is no wrapper stands for a document, unless it is all of a
    file and cannot be one."""
    if isinstance(value, list):
        for inner in value:
            yield from _unwrap(inner)
    elif isinstance(value, dict) and isinstance(value.get("documents"), list):
        yield from value["documents"]
    elif isinstance(value, dict) and "passages" not in value and _holds_documents(value):
        for inner in value.values():
            if _holds_documents(inner):
                yield from _unwrap(inner)
    elif not is_whole or (isinstance(value, dict) and "documents" not in value):
        yield value


def _holds_documents(value: Any) -> bool:
    if isinstance(value, dict):
        is_wrapper = "passages" in value or isinstance(value.get("documents"), list)
        return is_wrapper or any(map(_holds_documents, value.values()))
    return isinstance(value, list) and any(map(_holds_documents, value))


def _is_by_line(data: bytes) -> bool:
    """Whether most of a file's first lines are values that hold documents."""
    values = list(islice(_lines(data), _LINES_TRIED))
    return 2 * sum(map(_holds_documents, values)) > len(values)


def _lines(data: bytes) -> Iterator[Any]:
    """The values of a file with one a line; in place of a line that is none, its fault."""
    for number, line in enumerate(io.BytesIO(data), 1):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except (ValueError, RecursionError) as e:
            found = f"not JSON: {e}: {line[:40].decode(errors='replace')}"
            yield Fault(f"line {number}", "malformed text", found)


def _values(data: bytes, error: Exception) -> Iterator[Any]:
    """The values of a file with several, one after another.

    Raises:
        DamagedSource: where a value is none; with ``error`` if it is the first.
    """
    try:
        text = data.decode(json.detect_encoding(data))
    except UnicodeDecodeError as e:
        raise DamagedSource("at the start", f"not JSON: {e}") from e
    decoder = json.JSONDecoder()
    end = len(text) - len(text.lstrip(_SPACE))
    number = 0
    while end < len(text):
        try:
            value, end = decoder.raw_decode(text, end)
        except (ValueError, RecursionError) as e:
            place = f"after value {number}" if number else "at the start"
            raise DamagedSource(place, f"not JSON: {e if number else error}") from e
        number += 1
        yield value
        while end < len(text) and text[end] in _SPACE:
            end += 1
