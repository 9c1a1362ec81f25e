"""``pubmark show``: one citation with its mentions highlighted."""

import zlib
from datetime import date
from typing import Any

import pyarrow.compute as pc
from rich.console import Console, Group, RenderableType
from rich.text import Text

from engine.tables.store import Store
from engine.views.terminal import printable_values
from schemas.configs.tables import ShowConfig
from schemas.errors import UsageError

_STYLES = {
    "disease": "black on red",
    "chemical": "black on green",
    "gene": "black on cyan",
}
_OTHER_STYLES = ("black on yellow", "black on magenta", "white on blue", "black on bright_red")


def run(config: ShowConfig) -> dict[str, Any]:
    """The row of one citation.

    Raises:
        UsageError: if there is no table, or no such PMID in it.
    """
    dataset = Store(config.source).dataset()
    rows: list[dict[str, Any]] = dataset.to_table(
        filter=pc.field("pmid") == config.pmid
    ).to_pylist()
    if not rows:
        raise UsageError(f"PMID {config.pmid}: not in {config.source}")
    return rows[0]


def jsonable(value: Any) -> Any:
    """A row, or a value in it, as JSON takes it: digests as hex, times in ISO 8601. A column that
    another program added may be of any type."""
    if isinstance(value, dict):
        return {str(name): jsonable(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(v) for v in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, date):  # a datetime is one, too
        return value.isoformat()
    return value if value is None or isinstance(value, str | int | float) else str(value)


def render(stored: dict[str, Any], console: Console) -> RenderableType:
    """A citation for the terminal; without colours, mentions stand in ``[brackets type]``."""
    row = printable_values(stored)
    head = Text(f"PMID {row['pmid']}", style="bold")
    about = [str(row[n]) for n in ("journal", "pub_year", "doi") if row[n] is not None]
    head.append("  " + ", ".join(about), style="dim")
    mentions = row["mentions"] or []
    if row["text"] is None:
        body = Text(f"The text is not stored. {len(mentions)} mentions:\n")
        for m in mentions:
            body.append(f"{m['start']}-{m['end']} {m['entity_type']} {m['text']}\n")
    elif console.color_system:
        body = _coloured(row["text"], mentions)
    else:
        body = Text(_bracketed(row["text"], mentions))
    counts = {t: sum(m["entity_type"] == t for m in mentions) for t in _types(mentions)}
    legend = Text()
    for kind, count in counts.items():
        legend.append(f" {kind} ", style=_style(kind) if console.color_system else "")
        legend.append(f" {count}  ")
    if row["status"] != "ok":
        legend.append(f"status {row['status']}" + (f": {row['error']}" if row["error"] else ""))
    return Group(head, Text(), body, Text(), legend)


def _types(mentions: list[dict[str, Any]]) -> list[str]:
    return sorted({m["entity_type"] for m in mentions})


def _style(entity_type: str) -> str:
    other = _OTHER_STYLES[zlib.crc32(entity_type.encode()) % len(_OTHER_STYLES)]
    return _STYLES.get(entity_type, other)


def _coloured(text: str, mentions: list[dict[str, Any]]) -> Text:
    body = Text(text)
    # The longest first, so that a mention within another stays visible.
    for m in sorted(mentions, key=lambda m: m["start"] - m["end"]):
        body.stylize(_style(m["entity_type"]), m["start"], m["end"])
    return body


def _bracketed(text: str, mentions: list[dict[str, Any]]) -> str:
    opening: dict[int, list[str]] = {}
    closing: dict[int, list[str]] = {}
    # The outer one opens first and closes last.
    for m in sorted(mentions, key=lambda m: (m["start"], -m["end"])):
        opening.setdefault(m["start"], []).append("[")
        closing.setdefault(m["end"], []).insert(0, f" {m['entity_type']}]")
    out, place = [], 0
    for at in sorted({*opening, *closing}):
        out += [text[place:at], *closing.get(at, []), *opening.get(at, [])]
        place = at
    return "".join([*out, text[place:]])
