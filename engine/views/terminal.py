"""Texts that others wrote, made fit for a terminal.

Enters: strings of PubMed, of a model, of a path. Leaves: the same without characters that a
terminal obeys or that turn the order of what a person reads. Left to others: what is printed. Files
and tables keep every character.
"""

import json
import re
from typing import Any, TextIO

from rich.text import Text

_OBEYED = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f"  # C0 but for tab and line feed: ESC, carriage return, backspace
    "\x80-\x9f"  # C1: some terminals take U+009B for ESC [
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks, overrides and isolates of direction
    "\u2028\u2029"  # line and paragraph separators
    "\ufff9-\ufffb\U000e0000-\U000e007f"  # annotations and tags, which are not seen
    "\ud800-\udfff"  # halves of a character, which cannot be written
    "]"
)


def printable(text: str) -> str:
    """``text`` with U+FFFD for each character that a terminal would obey; tabs and line feeds stay.
    It is as long as before, so that offsets stay right."""
    return _OBEYED.sub("\ufffd", text)


def printable_values(value: Any) -> Any:
    """A row with all strings in it made printable, also within lists and structs."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [printable_values(v) for v in value]
    if isinstance(value, dict):
        return {name: printable_values(v) for name, v in value.items()}
    return value


def cell(text: str) -> Text:
    """A cell of a table: printable, and nothing in it is taken for markup such as ``[bold]``."""
    return Text(printable(text))


def to_json(value: Any, out: TextIO, **options: Any) -> str:
    """JSON for ``out``, in one line. What a terminal would obey is escaped, which means the same to
    a program; so is all but ASCII where ``out`` does not take UTF-8."""
    ascii_only = (out.encoding or "utf-8").lower().replace("-", "") != "utf8"
    text = json.dumps(value, ensure_ascii=ascii_only, **options)
    return _OBEYED.sub(lambda found: json.dumps(found[0])[1:-1], text)


def take_any_text(*streams: TextIO) -> None:
    """Let streams print what their encoding does not have as ``\\xNN`` or ``\\uNNNN``, not fail."""
    for stream in streams:
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors="backslashreplace")
