"""What is to be done, decided before any model time is spent.

Enters: the keys of every shard and of the table's rows, and the PMIDs in other files that the table
has taken in. Leaves: for each shard, the citations to annotate and those to store anew without
asking the model; the PMIDs to remove; and the counts.

The rules:

- Of several records of a PMID one wins: that of the latest shard; within a shard that of the
  highest version; among equal versions the last.
- DeleteCitation comes after the records of its own shard, and before those of the next.
- A winner is superseded, and nothing is done, if a later file that was taken in before holds or
  deletes its PMID, if the stored row is from a later file, or if the winner's own file is older
  than the newest complete baseline.
- A winner is settled if the table has a row with its PMID, its text digest and the current
  annotator. If another of its stored columns differs from the row's, it is stored anew without the
  model; otherwise nothing is done.

``DateRevised`` is not looked at: mass changes leave it untouched.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.tables.ledger import positions
from engine.tables.reading import KEY_COLUMNS

_SPOKEN_SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),
        ("ordinal", pa.int64()),
        ("pmid", pa.int64()),
        ("version", pa.int16()),
        ("text_digest", pa.binary()),
        ("metadata_digest", pa.int64()),
        ("empty", pa.bool_()),
        ("deletes", pa.bool_()),
    ]
)


@dataclass(frozen=True, slots=True)
class ShardReport:
    """What scanning one shard gave: counts of citations and of deleted PMIDs, and, as lines for a
    person, the rejected records and the damage (None: the shard was read to its end)."""

    citations: int
    deleted: int
    rejected: list[str]
    damage: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run has to do.

    ``wanted[i]`` is a boolean mask over the citations of shard ``i``, true for those to annotate.
    ``revised[i]`` is another, true for those whose text is settled but whose other stored columns
    change. ``present`` are the wanted PMIDs, sorted, that have a row in the table already; ``gone``
    are the deleted PMIDs, sorted, that have a row, which is to be removed. ``states`` counts PMIDs
    by what is to be done with them (see :data:`STATES`), and ``empty`` the wanted citations without
    text.
    """

    wanted: list[np.ndarray]
    revised: list[np.ndarray]
    present: np.ndarray
    gone: np.ndarray
    states: Counter[str]
    empty: int
    reports: list[ShardReport]

    @property
    def citations(self) -> int:
        """How many citations are to be annotated."""
        return int(sum(mask.sum() for mask in self.wanted))

    @property
    def read(self) -> int:
        """How many PMIDs have a winning record, rather than a deletion, in the shards."""
        return sum(self.states[s] for s in (*_TO_ANNOTATE, *_SETTLED))

    @property
    def settled(self) -> int:
        """How many of the PMIDs in :attr:`read` cost no model time."""
        return sum(self.states[s] for s in _SETTLED)

    @property
    def is_cut(self) -> bool:
        """Whether a limit leaves citations to annotate for a later run."""
        return self.citations < self.read - self.settled

    @property
    def is_whole(self) -> bool:
        """Whether every file was read in full, and every record had a usable PMID."""
        return not any(r.damage or r.rejected for r in self.reports)


_TO_ANNOTATE = ("new", "text_changed", "other_annotator", "retried")
_SETTLED = ("metadata_changed", "failed_before", "unchanged", "superseded")
STATES = (*_TO_ANNOTATE, *_SETTLED, "deleted", "absent")
"""The states of a PMID.

To annotate: ``new`` (not in the table), ``text_changed``, ``other_annotator``, and ``retried`` (its
row has a status that is to be tried again). Settled: ``metadata_changed`` (another version, title,
journal, …), ``failed_before`` (and not to be tried again), ``unchanged``, and ``superseded`` (what
is stored comes from a later file). Deleted by a shard: ``deleted`` has a row, which is removed;
``absent`` has none."""


def make_plan(
    scans: pa.Table,
    keys: pa.Table | None,
    annotator: str,
    retry: Collection[str] = (),
    limit: int | None = None,
    names: Sequence[str] = (),
    later: Iterable[tuple[int, pa.Array]] = (),
    outdated: int = 0,
) -> Plan:
    """Plan a run over scanned shards (rows of ``SCAN_SCHEMA``, any order).

    ``keys`` are KEY_COLUMNS of the table's rows, at least of those whose PMIDs the shards speak of;
    None if there is no table. ``retry`` names statuses whose rows do not count as settled;
    ``limit`` keeps the first so many of the citations to annotate. ``names`` are the shards' names.
    ``later`` has an entry for each file taken in before whose records win over those of some
    shards: how many shards come before that file, and the PMIDs that it holds or deletes. The first
    ``outdated`` shards are older than the newest complete baseline.
    """
    scans = scans.sort_by("shard")
    citations = pc.list_value_length(scans["pmid"]).to_numpy()
    if keys is None:
        keys = pa.table({n: pa.array([], pa.string()) for n in KEY_COLUMNS})
    spoken = _flatten(scans)
    with duckdb.connect() as db:
        db.register("spoken", spoken)
        db.register("stored", keys)
        db.register("later", _later(later, spoken))
        db.register("outranking", _outranking(keys, names))
        db.execute(
            """
            CREATE TEMP TABLE winner AS
            SELECT w.shard, w.ordinal, w.pmid, w.empty, s.pmid IS NOT NULL AS present,
                   CASE WHEN w.shard < greatest(coalesce(l.place, 0), coalesce(o.place, 0),
                                                $outdated) THEN 'superseded'
                        WHEN w.deletes AND s.pmid IS NULL THEN 'absent'
                        WHEN w.deletes THEN 'deleted'
                        WHEN s.pmid IS NULL THEN 'new'
                        WHEN s.text_digest::BLOB IS DISTINCT FROM w.text_digest THEN 'text_changed'
                        WHEN s.annotator IS DISTINCT FROM $annotator THEN 'other_annotator'
                        WHEN list_contains($retry, s.status) THEN 'retried'
                        WHEN s.metadata_digest::BIGINT IS DISTINCT FROM w.metadata_digest
                            THEN 'metadata_changed'
                        WHEN s.status IN ('failed', 'partial') THEN 'failed_before'
                        ELSE 'unchanged' END AS state,
                   w.deletes
            FROM (SELECT * FROM spoken
                  QUALIFY row_number() OVER (PARTITION BY pmid ORDER BY
                      shard DESC, deletes DESC, version DESC, ordinal DESC) = 1) w
            LEFT JOIN stored s ON s.pmid::BIGINT = w.pmid
            LEFT JOIN later l ON l.pmid = w.pmid
            LEFT JOIN outranking o ON o.source = s.source
            """,
            {"annotator": annotator, "retry": list(retry), "outdated": outdated},
        )
        # LIMIT NULL is no limit.
        todo = db.execute(
            "SELECT shard, ordinal, pmid, present, empty FROM winner "
            "WHERE list_contains($states, state) ORDER BY shard, ordinal LIMIT $limit",
            {"limit": limit, "states": list(_TO_ANNOTATE)},
        ).fetchnumpy()
        revised = db.execute(
            "SELECT shard, ordinal FROM winner WHERE state = 'metadata_changed' "
            "ORDER BY shard, ordinal"
        ).fetchnumpy()
        gone = db.execute("SELECT pmid FROM winner WHERE state = 'deleted'").fetchnumpy()["pmid"]
        counts = db.execute(
            "SELECT state, count(*) FROM winner WHERE NOT (deletes AND state = 'superseded') "
            "GROUP BY 1"
        ).fetchall()
    return Plan(
        wanted=_masks(todo, citations),
        revised=_masks(revised, citations),
        present=np.sort(todo["pmid"][todo["present"].astype(bool)]),
        gone=np.sort(gone),
        states=Counter(dict(counts)),
        empty=int(todo["empty"].sum()),
        reports=_reports(scans),
    )


def spoken_pmids(scans: pa.Table) -> np.ndarray:
    """The PMIDs, sorted, that scanned shards hold or delete."""
    return np.unique(
        np.concatenate([pc.list_flatten(scans[n]).to_numpy() for n in ("pmid", "deleted")])
    )


def _outranking(keys: pa.Table, names: Sequence[str]) -> pa.Table:
    """For each source of stored rows, the number of shards (``names``) that are older than it."""
    sources = pc.unique(keys["source"]).drop_null().to_pylist()
    return pa.table({"source": pa.array(sources, pa.string()), "place": positions(sources, names)})


def _later(later: Iterable[tuple[int, pa.Array]], spoken: pa.Table) -> pa.Table:
    """For each PMID of the shards that other files hold or delete too, the number of shards that
    are older than the latest of these files."""
    ours: np.ndarray | None = None
    pmids, after = [np.array([], np.int64)], [np.array([], np.int32)]
    for place, theirs in later:
        ours = np.unique(spoken["pmid"]) if ours is None else ours
        both = np.intersect1d(ours, theirs)
        pmids.append(both)
        after.append(np.full(len(both), place, np.int32))
    table = pa.table({"pmid": np.concatenate(pmids), "place": np.concatenate(after)})
    grouped = table.group_by("pmid").aggregate([("place", "max")])
    return grouped.select(["pmid", "place_max"]).rename_columns(["pmid", "place"])


def _masks(chosen: dict[str, np.ndarray], citations: np.ndarray) -> list[np.ndarray]:
    """For each shard, a mask over its citations, true for those of ``chosen`` (``shard`` and
    ``ordinal``, sorted by shard)."""
    masks = [np.zeros(n, dtype=bool) for n in citations]
    borders = np.searchsorted(chosen["shard"], np.arange(len(masks) + 1))
    for shard, mask in enumerate(masks):
        mask[chosen["ordinal"][borders[shard] : borders[shard + 1]]] = True
    return masks


def _flatten(scans: pa.Table) -> pa.Table:
    """One row per scanned citation, then one per deletion: its shard, its position in the shard
    from 0, and its keys, which are null for a deletion."""
    parts = []
    for deletes in (False, True):
        lists = scans["deleted" if deletes else "pmid"]
        counts = pc.list_value_length(lists).to_numpy()
        starts = np.cumsum(counts) - counts
        shard = np.repeat(scans["shard"].to_numpy(), counts)
        columns: dict[str, object] = {
            "shard": shard,
            "ordinal": np.arange(len(shard)) - np.repeat(starts, counts),
            "pmid": pc.list_flatten(lists),
            "deletes": np.full(len(shard), deletes),
        }
        for field in _SPOKEN_SCHEMA:
            if field.name not in columns:
                columns[field.name] = (
                    pa.nulls(len(shard), field.type)
                    if deletes
                    else pc.list_flatten(scans[field.name])
                )
        parts.append(pa.table(columns).select(_SPOKEN_SCHEMA.names).cast(_SPOKEN_SCHEMA))
    return pa.concat_tables(parts)


def _reports(scans: pa.Table) -> list[ShardReport]:
    reports = []
    for row in scans.select(["deleted", "rejected", "damage", "pmid"]).to_batches():
        for deleted, rejected, damage, pmids in zip(*row.columns, strict=True):
            lines = [f"{r['place']}: {r['reason']}" for r in rejected.as_py()]
            spoilt = damage.as_py()
            reports.append(
                ShardReport(
                    citations=len(pmids),
                    deleted=len(deleted),
                    rejected=lines,
                    damage=f"{spoilt['place']}: {spoilt['reason']}" if spoilt else None,
                )
            )
    return reports
