"""What is to be annotated, held against a dozen lines that say the rules in plain Python."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.planning import plan as module
from engine.planning.baseline import vanished
from engine.planning.plan import Plan, make_plan, no_keys
from engine.planning.settled import settled_pmids
from engine.sources.read import SCAN_SCHEMA
from engine.tables.reading import KEY_COLUMNS
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
            "broken": [],
            "damage": None,
        }
        for i, keys in enumerate(shards)
    ]
    return pa.Table.from_pylist(rows, schema=SCAN_SCHEMA)


@pytest.fixture(params=[4_000_000, 3], ids=["at-once", "three-at-a-time"], autouse=True)
def at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PMIDS_AT_ONCE", request.param)


def plan_of(scans: pa.Table, keys: pa.Table | None, *args: Any, **options: Any) -> Plan:
    return make_plan(scans, no_keys if keys is None else lambda pmids: keys, *args, **options)


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
    plan = plan_of(scanned(shards), stored_keys(stored), ANNOTATOR, retry, limit)
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
    plan = plan_of(scanned([[Key(1), Key(2)], [Key(1)]]), None, ANNOTATOR)
    assert todo(plan) == [(0, 1), (1, 0)] and len(plan.present) == 0


def test_shards_may_come_in_any_order() -> None:
    scans = scanned([[Key(1)], [Key(1), Key(2)]]).take([1, 0])
    assert todo(plan_of(scans, None, ANNOTATOR)) == [(1, 0), (1, 1)]


def planned(shards: list[list[Key]], stored: list[Stored], **more: Any) -> dict[str, int]:
    plan = plan_of(scanned(shards), stored_keys(stored), ANNOTATOR, **more)
    return {state: count for state, count in plan.states.items() if count}


def test_each_kind_of_change_is_told_apart() -> None:
    keys = [Key(1), Key(2, text="y"), Key(3), Key(4), Key(5), Key(6)]
    stored = [
        Stored(2), Stored(3, annotator="b"), Stored(4, status="failed"), Stored(5),
        Stored(6, status="partial"), Stored(7),
    ]  # fmt: skip
    assert planned([keys], stored, retry=["failed"]) == {
        "new": 1, "text_changed": 1, "other_annotator": 1, "retried": 1, "unchanged": 1,
        "failed_before": 1,
    }  # fmt: skip


def test_changed_metadata_is_revised_not_annotated() -> None:
    scans = scanned([[Key(1), Key(2)]])
    for digest in (1, None):  # None: of version 1
        keys = stored_keys([Stored(1), Stored(2)])
        digests = pa.array([0, digest], pa.int64())
        keys = keys.set_column(keys.schema.get_field_index("metadata_digest"), "metadata_digest",
                               digests)  # fmt: skip
        plan = plan_of(scans, keys, ANNOTATOR)
        assert todo(plan) == [] and plan.settled == 2
        assert [mask.tolist() for mask in plan.revised] == [[False, True]]


def test_a_deletion_comes_after_its_own_shard_and_before_the_next() -> None:
    rows = scanned([[Key(1), Key(2), Key(3)], [Key(2)]]).to_pylist()
    rows[0]["deleted"] = [1, 2, 4, 5]
    plan = plan_of(
        pa.Table.from_pylist(rows, SCAN_SCHEMA), stored_keys([Stored(1), Stored(5)]), ANNOTATOR
    )
    assert todo(plan) == [(0, 2), (1, 0)] and plan.gone.tolist() == [1, 5]
    assert (plan.read, plan.states["deleted"], plan.states["absent"]) == (2, 2, 1)


def test_what_a_later_file_speaks_of_is_superseded() -> None:
    shards = [[Key(1), Key(2)], [Key(2), Key(3)], [Key(4), Key(5)]]
    later = [(1, np.array([1, 2, 9])), (2, np.array([3, 4]))]
    assert planned(shards, [], later=later) == {"superseded": 2, "new": 3}
    assert planned(shards, [], outdated=2) == {"superseded": 3, "new": 2}
    rows = scanned(shards).to_pylist()
    rows[0]["deleted"] = [1]
    plan = plan_of(
        pa.Table.from_pylist(rows, SCAN_SCHEMA), stored_keys([Stored(1)]), ANNOTATOR, later=later
    )
    assert plan.gone.tolist() == []


def test_a_row_of_a_later_file_stays() -> None:
    names = ["pubmed26n0003.xml.gz", "pubmed26n0005.xml.gz", "mine.jsonl"]
    shards = [[Key(1)], [Key(2)], [Key(3)]]
    stored = [Stored(i, text="old") for i in (1, 2, 3)]
    for source, expected in [
        ("pubmed26n0003.xml.gz", [(0, 0), (1, 0), (2, 0)]),
        ("pubmed26n0004.xml.gz", [(1, 0), (2, 0)]),
        ("pubmed27n0001.xml.gz", [(2, 0)]),
        ("other.jsonl", [(2, 0)]),
    ]:
        keys = stored_keys(stored)
        sources = pa.array([source] * 3)
        keys = keys.set_column(keys.schema.get_field_index("source"), "source", sources)
        assert todo(plan_of(scanned(shards), keys, ANNOTATOR, names=names)) == expected


def test_what_a_baseline_no_longer_holds_vanishes_if_it_was_nlms() -> None:
    sources = ["pubmed25n0001.xml.gz"] * 3 + ["mine.jsonl", None]
    stored = pa.table({"pmid": [1, 2, 9, 4, 5], "source": pa.array(sources, pa.string())})
    assert vanished(stored.to_batches(), np.array([2, 3])).tolist() == [1, 9]
    assert vanished([], np.array([2])).tolist() == []


def test_reports_name_place_and_reason() -> None:
    row = scanned([[Key(1)]]).to_pylist()[0] | {
        "deleted": [7, 8],
        "rejected": [{"place": "record 2", "reason": "no PMID"}],
        "damage": {"place": "after record 2", "reason": "broken XML"},
    }
    (report,) = plan_of(pa.Table.from_pylist([row], SCAN_SCHEMA), None, ANNOTATOR).reports
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
