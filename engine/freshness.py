"""Which citations are to be annotated, decided before any model time is spent.

Enters: the keys of every shard and of the table. Leaves: for each shard, the citations that are
wanted, and the counts. The rules: of several records of a PMID the one in the later shard wins,
within a shard the highest version, then the later record; a winner is settled when the table has
a row with its PMID, its text digest and the current annotator.
"""

from collections.abc import Collection
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.store import KEY_COLUMNS

_SETTLING = ("pmid", "text_digest", "annotator")
_SETTLING_SCHEMA = pa.schema(
    [("pmid", pa.int64()), ("text_digest", pa.binary()), ("annotator", pa.string())]
)


@dataclass(frozen=True, slots=True)
class ShardReport:
    """What scanning one shard found. ``damage`` and ``rejected`` are lines for a person."""

    citations: int
    deleted: int
    rejected: list[str]
    damage: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run has to do.

    ``wanted[i]`` is a boolean mask over the citations of shard ``i``. ``present`` are the PMIDs,
    sorted, that are wanted and have a row in the table already. Counts are of distinct PMIDs.
    """

    wanted: list[np.ndarray]
    present: np.ndarray
    read: int
    settled: int
    empty: int
    reports: list[ShardReport]

    @property
    def citations(self) -> int:
        """How many citations are to be annotated."""
        return int(sum(mask.sum() for mask in self.wanted))


def make_plan(
    scans: pa.Table,
    keys: pa.Table | None,
    annotator: str,
    retry: Collection[str] = (),
    limit: int | None = None,
) -> Plan:
    """Plan a run over scanned shards (rows of ``SCAN_SCHEMA``, any order).

    ``keys`` are the table's KEY_COLUMNS, None if there is no table. ``retry`` names statuses
    whose rows do not count as settled; ``limit`` keeps the first so many of the citations to do.
    """
    scans = scans.sort_by("shard")
    citations = pc.list_value_length(scans["pmid"]).to_numpy()
    with duckdb.connect() as db:
        db.register("scanned", _flatten(scans))
        if keys is None:
            keys = pa.table({n: pa.array([], pa.string()) for n in KEY_COLUMNS})
        db.register("stored", keys)
        db.execute(
            """
            CREATE TEMP TABLE winner AS
            SELECT w.*, s.pmid IS NOT NULL AS present,
                   coalesce(s.text_digest::BLOB = w.text_digest AND s.annotator = $annotator
                            AND NOT list_contains($retry, s.status), false) AS settled
            FROM (SELECT * FROM scanned
                  QUALIFY row_number() OVER
                      (PARTITION BY pmid ORDER BY shard DESC, version DESC, ordinal DESC) = 1) w
            LEFT JOIN stored s ON s.pmid::BIGINT = w.pmid
            """,
            {"annotator": annotator, "retry": list(retry)},
        )
        # LIMIT NULL is no limit.
        todo = db.execute(
            "SELECT shard, ordinal, pmid, present, empty FROM winner WHERE NOT settled "
            "ORDER BY shard, ordinal LIMIT $limit",
            {"limit": limit},
        ).fetchnumpy()
        read, settled = db.execute(
            "SELECT count(*), count(*) FILTER (settled) FROM winner"
        ).fetchall()[0]
    wanted = [np.zeros(n, dtype=bool) for n in citations]
    borders = np.searchsorted(todo["shard"], np.arange(len(wanted) + 1))
    for shard, mask in enumerate(wanted):
        mask[todo["ordinal"][borders[shard] : borders[shard + 1]]] = True
    return Plan(
        wanted=wanted,
        present=np.sort(todo["pmid"][todo["present"].astype(bool)]),
        read=read,
        settled=settled,
        empty=int(todo["empty"].sum()),
        reports=_reports(scans),
    )


def settled_pmids(stored: pa.Table, rows: pa.Table, retry: Collection[str] = ()) -> pa.Array:
    """The PMIDs of ``rows`` that ``stored`` settles: by the rule of :func:`make_plan`, for a batch.

    Both have KEY_COLUMNS. Used when another writer has come between planning and committing.
    """
    reopened = pc.is_in(stored["status"], pa.array(list(retry), pa.string()))
    ours, theirs = (
        t.select(list(_SETTLING)).cast(_SETTLING_SCHEMA)
        for t in (rows, stored.filter(pc.invert(reopened)))
    )
    return ours.join(theirs, list(_SETTLING), join_type="left semi")["pmid"].combine_chunks()


def _flatten(scans: pa.Table) -> pa.Table:
    """One row per scanned citation: shard, ordinal within it, and its keys."""
    counts = pc.list_value_length(scans["pmid"]).to_numpy()
    starts = np.cumsum(counts) - counts
    shard = np.repeat(scans["shard"].to_numpy(), counts)
    columns = {n: pc.list_flatten(scans[n]) for n in ("pmid", "version", "text_digest", "empty")}
    ordinal = np.arange(len(shard)) - np.repeat(starts, counts)
    return pa.table({"shard": shard, "ordinal": ordinal, **columns}).cast(
        pa.schema(
            [
                ("shard", pa.int32()),
                ("ordinal", pa.int64()),
                ("pmid", pa.int64()),
                ("version", pa.int16()),
                ("text_digest", pa.binary()),
                ("empty", pa.bool_()),
            ]
        )
    )


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
