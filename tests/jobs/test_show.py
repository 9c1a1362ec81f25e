"""A citation for the terminal."""

import json
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console

from engine.views.terminal import printable
from jobs.show import jsonable, render

TEXT = "mRNA of Top2b in cancer"


def mention(surface: str, kind: str) -> dict[str, Any]:
    start = TEXT.index(surface)
    return {"start": start, "end": start + len(surface), "text": surface, "entity_type": kind}


def shown(mentions: list[dict[str, Any]], colour: bool = False, **values: Any) -> str:
    row = {"pmid": 7, "journal": "J", "pub_year": None, "doi": None, "text": TEXT,
           "mentions": mentions, "status": "ok", "error": None} | values  # fmt: skip
    console = Console(
        width=80, color_system="standard" if colour else None, force_terminal=colour, record=True
    )
    with console.capture() as captured:
        console.print(render(row, console))
    return captured.get()


def test_without_colours_mentions_stand_in_brackets() -> None:
    out = shown([mention("Top2b", "gene"), mention("cancer", "disease")])
    assert "PMID 7  J\n" in out and "mRNA of [Top2b gene] in [cancer disease]\n" in out
    assert "disease  1   gene  1" in out


def test_a_mention_within_another_closes_first() -> None:
    out = shown([mention("mRNA of Top2b", "chemical"), mention("Top2b", "gene")])
    assert "[mRNA of [Top2b gene] chemical] in cancer" in out
    both = [mention("Top2b", "gene"), mention("Top2b in cancer", "disease")]
    assert "[[Top2b gene] in cancer disease]" in shown(both)


def test_with_colours_the_text_is_as_it_is() -> None:
    out = shown([mention("Top2b", "gene")], colour=True)
    assert "[30;46mTop2b" in out and "[Top2b gene]" not in out


def test_a_row_without_its_text_lists_its_mentions() -> None:
    out = shown([mention("Top2b", "gene")], text=None)
    assert "The text is not stored. 1 mentions:" in out and "8-13 gene Top2b" in out


def test_a_failed_citation_says_why() -> None:
    out = shown([], status="failed", error="generate: ValueError: no")
    assert "status failed: generate: ValueError: no" in out


@pytest.mark.parametrize("colour", [True, False])
def test_nothing_that_is_stored_is_obeyed_and_spans_stay(colour: bool) -> None:
    text = "\x1b[2Jof \u202eTop2b\x9b31m in \x07cancer"
    start = text.index("Top2b")
    gene = {"start": start, "end": start + 5, "text": "Top2b", "entity_type": "ge\x1bne"}
    out = shown([gene], colour, text=text, journal="J\x1b]0;x\x07", doi="10.1/\r", status="failed",
                error="x\x1b[1m")  # fmt: skip
    own = re.sub(r"\x1b\[[0-9;]*m", "", out) if colour else out
    assert printable(own) == own
    assert ("\ufffd[2Jof \ufffdTop2b\ufffd31m in \ufffdcancer" in own) == colour
    assert ("of \ufffd[Top2b ge\ufffdne]\ufffd31m" in own) != colour
    bare = shown([gene | {"text": "a\x1bb"}], colour, text=None)
    assert "a\ufffdb" in bare


def test_as_json_a_row_may_hold_any_type() -> None:
    row = {
        "pmid": 7, "text_digest": b"\x00\xff", "annotated_at": datetime(2026, 3, 1, tzinfo=UTC),
        "cost": Decimal("1.50"), "on": date(2026, 3, 1), "votes": [("a", 1)], "who": {"x": None},
        "score": 0.5, "done": True, "run_id": None,
    }  # fmt: skip
    assert json.loads(json.dumps(jsonable(row))) == {
        "pmid": 7, "text_digest": "00ff", "annotated_at": "2026-03-01T00:00:00+00:00",
        "cost": "1.50", "on": "2026-03-01", "votes": [["a", 1]], "who": {"x": None},
        "score": 0.5, "done": True, "run_id": None,
    }  # fmt: skip
    nothing = {"text_digest": None, "annotated_at": None}  # of a row that another program added
    assert jsonable(nothing) == nothing
