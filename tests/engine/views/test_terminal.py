"""Nothing that others wrote is obeyed by a terminal."""

import io
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from engine.views.terminal import cell, printable, printable_values, take_any_text, to_json

HOSTILE = {
    "ESC": "\x1b", "CSI": "\x9b", "OSC": "\x9d", "NEL": "\x85", "BEL": "\x07", "backspace": "\b",
    "carriage return": "\r", "vertical tab": "\v", "form feed": "\f", "shift out": "\x0e",
    "delete": "\x7f", "NUL": "\0", "override": "\u202e", "embedding": "\u202a", "isolate": "\u2066",
    "isolate's end": "\u2069", "mark": "\u200f", "Arabic mark": "\u061c", "line": "\u2028",
    "paragraph": "\u2029", "annotation": "\ufff9", "tag": "\U000e0041", "half": "\ud800",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_terminal_obeys_is_replaced_one_for_one(name: str) -> None:
    assert printable(f"as{HOSTILE[name]}[31mpirin") == "as\ufffd[31mpirin"


def test_what_people_write_stays() -> None:
    text = "β-Catenin é e\u0301\tH₂O\n日本 שלום مرحبا 👩\u200d🔬 ½ ≥ \u00a0\u00ad\ufeff"
    assert printable(text) == text


@given(st.text())
def test_of_any_text_nothing_is_left_to_obey(text: str) -> None:
    safe = printable(text)
    assert len(safe) == len(text) and printable(safe) == safe
    assert not {c for c in safe if unicodedata.category(c) in ("Cc", "Cs")} - {"\t", "\n"}
    assert {unicodedata.bidirectional(c) for c in safe}.isdisjoint(
        {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    )


def test_values_within_values() -> None:
    row = {"a": "\x1b", "b": [{"c": "x\r", "d": 1.5}], "e": None, "f": b"\x1b"}
    safe = {"a": "\ufffd", "b": [{"c": "x\ufffd", "d": 1.5}], "e": None, "f": b"\x1b"}
    assert printable_values(row) == safe


@given(st.recursive(st.text() | st.integers() | st.none(), st.lists))
def test_json_means_the_same_and_holds_nothing_to_obey(value: object) -> None:
    for encoding in ("utf-8", "ascii", "latin-1"):
        out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        line = to_json(value, out)
        assert json.loads(line) == value and printable(line) == line and "\n" not in line
        line.encode(encoding)


def test_json_of_letters_is_readable_where_it_can_be() -> None:
    assert to_json("é😀", io.TextIOWrapper(io.BytesIO(), "utf-8")) == '"é😀"'
    assert to_json("é😀", io.TextIOWrapper(io.BytesIO(), "ascii")) == '"\\u00e9\\ud83d\\ude00"'


def test_a_cell_is_shown_as_it_is_written() -> None:
    out = io.StringIO()
    table = Table("x")
    for text in ("[red]aspirin[/red]", "[/nothing]", "[Not Available].", "\x1b]8;;http://x\x1b\\"):
        table.add_row(cell(text))
    Console(file=out, width=80, force_terminal=True, color_system="standard").print(table)
    assert "[red]aspirin[/red]" in out.getvalue() and "[Not Available]." in out.getvalue()
    assert "[/nothing]" in out.getvalue() and "\x1b]8" not in out.getvalue()


def test_a_stream_takes_any_text() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    take_any_text(stream)
    stream.write("é\udcff")
    stream.flush()
    assert raw.getvalue() == b"\\xe9\\udcff"
