"""What is to be annotated, held against a dozen lines that say the rules in plain Python."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.freshness import Plan, make_plan, settled_pmids
from engine.sources.read import SCAN_SCHEMA
from engine.store import KEY_COLUMNS
from schemas.citation import digest_text

ANNOTATOR = "a" * 16


@dataclass(frozen=True)
class Key:
    pmid: int
    version: int = 1
    text: str = "x"


@dataclass(frozen=True)
class Stored:
    pmid: int
    text: str = "x"
    annotator: str = ANNOTATOR
    status: str = "ok"


def scanned(shards: list[list[Key]]) -> pa.Table:
    rows = [
        {
            "shard": i,
            "pmid": [k.pmid for k in keys],
            "version": [k.version for k in keys],
            "text_digest": [digest_text(k.text) for k in keys],
            "metadata_digest": [0] * len(keys),
            "empty": [not k.text for k in keys],
            "deleted": [],
            "rejected": [],
            "damage": None,
        }
        for i, keys in enumerate(shards)
    ]
    return pa.Table.from_pylist(rows, schema=SCAN_SCHEMA)


def stored_keys(rows: list[Stored]) -> pa.Table:
    columns = [
        pa.array([r.pmid for r in rows], pa.int64()),
        pa.array([digest_text(r.text) for r in rows], pa.binary()),
        pa.array([r.annotator for r in rows], pa.string()),
        pa.array([r.status for r in rows], pa.string()),
        pa.array([0] * len(rows), pa.int64()),
        pa.array(["a.xml"] * len(rows), pa.string()),
    ]
    return pa.table(columns, names=list(KEY_COLUMNS))


def todo(plan: Plan) -> list[tuple[int, int]]:
    return [(s, int(o)) for s, mask in enumerate(plan.wanted) for o in np.flatnonzero(mask)]


_KEYS = st.builds(Key, st.integers(1, 6), st.integers(1, 3), st.sampled_from(["", "x", "y"]))
_STORED = st.builds(
    Stored,
    st.integers(1, 6),
    st.sampled_from(["", "x", "y"]),
    st.sampled_from([ANNOTATOR, "b" * 16]),
    st.sampled_from(["ok", "failed", "partial"]),
)


@given(
    st.lists(st.lists(_KEYS, max_size=5), min_size=1, max_size=4),
    st.lists(_STORED, max_size=6, unique_by=lambda s: s.pmid),
    st.sets(st.sampled_from(["failed", "partial"])),
    st.one_of(st.none(), st.integers(1, 4)),
)
def test_the_plan_is_what_the_rules_say(
    shards: list[list[Key]], stored: list[Stored], retry: set[str], limit: int | None
) -> None:
    plan = make_plan(scanned(shards), stored_keys(stored), ANNOTATOR, retry, limit)
    winners: dict[int, tuple[int, int, int]] = {}
    for s, keys in enumerate(shards):
        for o, key in enumerate(keys):
            winners[key.pmid] = max(winners.get(key.pmid, (-1, 0, 0)), (s, key.version, o))
    table = {row.pmid: row for row in stored}
    wanted, present = [], []
    for pmid, (s, _, o) in winners.items():
        row = table.get(pmid)
        settled = (
            row is not None
            and row.text == shards[s][o].text
            and row.annotator == ANNOTATOR
            and row.status not in retry
        )
        if not settled:
            wanted.append((s, o))
            present += [pmid] if row else []
    expected = sorted(wanted)[:limit]
    assert todo(plan) == expected
    assert plan.citations == len(expected)
    assert plan.read == len(winners) and plan.settled == len(winners) - len(wanted)
    assert plan.empty == sum(not shards[s][o].text for s, o in expected)
    asked = {shards[s][o].pmid for s, o in expected}
    assert plan.present.tolist() == sorted(set(present) & asked)


def test_without_a_table_all_winners_are_wanted() -> None:
    plan = make_plan(scanned([[Key(1), Key(2)], [Key(1)]]), None, ANNOTATOR)
    assert todo(plan) == [(0, 1), (1, 0)] and len(plan.present) == 0


def test_shards_may_come_in_any_order() -> None:
    scans = scanned([[Key(1)], [Key(1), Key(2)]]).take([1, 0])
    assert todo(make_plan(scans, None, ANNOTATOR)) == [(1, 0), (1, 1)]


def test_reports_name_place_and_reason() -> None:
    row = scanned([[Key(1)]]).to_pylist()[0] | {
        "deleted": [7, 8],
        "rejected": [{"place": "record 2", "reason": "no PMID"}],
        "damage": {"place": "after record 2", "reason": "broken XML"},
    }
    (report,) = make_plan(pa.Table.from_pylist([row], SCAN_SCHEMA), None, ANNOTATOR).reports
    assert (report.citations, report.deleted) == (1, 2)
    assert report.rejected == ["record 2: no PMID"]
    assert report.damage == "after record 2: broken XML"


@pytest.mark.parametrize(
    ("stored", "retry", "expected"),
    [
        (Stored(1), [], [1]),
        (Stored(1, text="y"), [], []),
        (Stored(1, annotator="b" * 16), [], []),
        (Stored(1, status="failed"), [], [1]),
        (Stored(1, status="failed"), ["failed"], []),
        (Stored(2), [], []),
    ],
)
def test_what_settles_a_row_to_commit(
    stored: Stored, retry: list[str], expected: list[int]
) -> None:
    rows = stored_keys([Stored(1)]).append_column("more", pa.array(["kept out of it"]))
    assert settled_pmids(stored_keys([stored]), rows, retry).to_pylist() == expected
