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
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.storage.duck import connect
from engine.tables.layout.files import NO_PMIDS, among, distinct
from engine.tables.ledger import positions
from engine.tables.reading import KEY_COLUMNS

_PMIDS_AT_ONCE = 1_000_000
"""PMIDs that are decided at once. What the shards of a year's baseline say, forty times as many,
would take 13 GB if all of it were compared with the table at once."""


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
        """Whether every file was read to its end. A record without a usable PMID costs itself."""
        return not any(r.damage for r in self.reports)


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
    keys: Callable[[np.ndarray], pa.Table],
    annotator: str,
    retry: Collection[str] = (),
    limit: int | None = None,
    names: Sequence[str] = (),
    later: Iterable[tuple[int, np.ndarray]] = (),
    outdated: int = 0,
) -> Plan:
    """Plan a run over scanned shards (rows of ``SCAN_SCHEMA``, any order).

    ``keys`` gives KEY_COLUMNS of the table's rows with the PMIDs (sorted) that it is given, at
    least; see :func:`no_keys`. ``retry`` names statuses whose rows do not count as settled;
    ``limit`` keeps the first so many of the citations to annotate. ``names`` are the shards' names.
    ``later`` has an entry for each file taken in before whose records win over those of some
    shards: how many shards come before that file, and the PMIDs that it holds or deletes. The first
    ``outdated`` shards are older than the newest complete baseline.
    """
    scans = in_order(scans)
    citations, deletions = _Spoken(scans, deletes=False), _Spoken(scans, deletes=True)
    pmids = spoken_pmids(scans)
    after = _later(later, pmids)
    wanted, present, revised = (citations.none() for _ in range(3))
    gone = [NO_PMIDS]
    states: Counter[str] = Counter()
    for part in np.array_split(pmids, max(1, -(-len(pmids) // _PMIDS_AT_ONCE))):
        spoken = pa.concat_tables([citations.of(part), deletions.of(part)])
        stored = keys(part)
        with connect() as db:
            db.register("spoken", spoken)
            db.register("stored", stored)
            db.register("later", after)
            db.register("outranking", _outranking(stored, names))
            db.execute(
                _DECIDE, {"annotator": annotator, "retry": list(retry), "outdated": outdated}
            )
            found = _winners(db, _TO_ANNOTATE)
            at = citations.positions(found)
            wanted[at] = True
            present[at] = found["present"]
            revised[citations.positions(_winners(db, ("metadata_changed",)))] = True
            gone.append(
                db.execute("SELECT pmid FROM winner WHERE state = 'deleted'").fetchnumpy()["pmid"]
            )
            counts = db.execute(
                "SELECT state, count(*) FROM winner WHERE NOT (deletes AND state = 'superseded') "
                "GROUP BY 1"
            ).fetchall()
            states.update(dict(counts))
    if limit is not None:
        wanted[np.flatnonzero(wanted)[limit:]] = False
    return Plan(
        wanted=citations.by_shard(wanted),
        revised=citations.by_shard(revised),
        present=np.sort(citations.pmids[wanted & present]),
        gone=np.sort(np.concatenate(gone)),
        states=states,
        empty=citations.count_empty(wanted),
        reports=_reports(scans),
    )


def in_order(scans: pa.Table) -> pa.Table:
    """Rows of SCAN_SCHEMA by shard. To sort copies them, 1.6 GB of a year, so it is done only where
    they are in another order."""
    return scans if (np.diff(scans["shard"].to_numpy()) >= 0).all() else scans.sort_by("shard")


def no_keys(pmids: np.ndarray) -> pa.Table:
    """The keys of a table that is not there."""
    return pa.table({name: pa.array([], pa.string()) for name in KEY_COLUMNS})


_DECIDE = """
    CREATE TEMP TABLE winner AS
    SELECT w.shard, w.ordinal, w.pmid, s.pmid IS NOT NULL AS present,
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
"""


def _winners(db: duckdb.DuckDBPyConnection, states: Sequence[str]) -> dict[str, np.ndarray]:
    """The winning citations in some states, in no order: ``shard``, ``ordinal``, and whether their
    PMID is ``present`` in the table."""
    found: dict[str, np.ndarray] = db.execute(
        "SELECT shard, ordinal, present FROM winner WHERE list_contains($states, state)",
        {"states": list(states)},
    ).fetchnumpy()
    return found


def spoken_pmids(scans: pa.Table) -> np.ndarray:
    """The PMIDs, sorted, that scanned shards hold or delete."""
    return distinct(*(pc.list_flatten(scans[n]).to_numpy() for n in ("pmid", "deleted")))


def _outranking(keys: pa.Table, names: Sequence[str]) -> pa.Table:
    """For each source of stored rows, the number of shards (``names``) that are older than it."""
    sources = pc.unique(keys["source"]).drop_null().to_pylist()
    return pa.table({"source": pa.array(sources, pa.string()), "place": positions(sources, names)})


def _later(later: Iterable[tuple[int, np.ndarray]], ours: np.ndarray) -> pa.Table:
    """For each of our PMIDs (sorted) that other files hold or delete too, the number of shards that
    are older than the latest of these files."""
    pmids, after = [NO_PMIDS], [np.array([], np.int32)]
    for place, theirs in later:
        both = theirs[among(theirs, ours)]
        pmids.append(both)
        after.append(np.full(len(both), place, np.int32))
    table = pa.table({"pmid": np.concatenate(pmids), "place": np.concatenate(after)})
    grouped = table.group_by("pmid").aggregate([("place", "max")])
    return grouped.select(["pmid", "place_max"]).rename_columns(["pmid", "place"])


class _Spoken:
    """What scanned shards (sorted) say of PMIDs: citations, or deletions, one after the other.
    ``pmids`` are theirs in that order."""

    _OF_CITATIONS = ("version", "text_digest", "metadata_digest")

    def __init__(self, scans: pa.Table, deletes: bool):
        lists = scans["deleted" if deletes else "pmid"]
        self._deletes = deletes
        self._counts = pc.list_value_length(lists).to_numpy()
        self._starts = np.cumsum(self._counts) - self._counts
        self.pmids = pc.list_flatten(lists).to_numpy()
        self._empty = pc.list_flatten(scans["empty"])
        self._columns = {n: pc.list_flatten(scans[n]) for n in self._OF_CITATIONS}

    def of(self, pmids: np.ndarray) -> pa.Table:
        """What is said of some PMIDs (sorted, with none between them left out): shard, position in
        the shard from 0, and keys, which are null for a deletion."""
        within = NO_PMIDS
        if len(pmids):
            within = np.flatnonzero((self.pmids >= pmids[0]) & (self.pmids <= pmids[-1]))
        shard = np.searchsorted(self._starts + self._counts, within, "right")
        columns = {
            "shard": pa.array(shard, pa.int32()),
            "ordinal": pa.array(within - self._starts[shard], pa.int64()),
            "pmid": pa.array(self.pmids[within], pa.int64()),
            "deletes": pa.array(np.full(len(within), self._deletes)),
        }
        for name, kind in zip(
            self._OF_CITATIONS, (pa.int16(), pa.binary(), pa.int64()), strict=True
        ):
            values = self._columns[name]
            columns[name] = (
                pa.nulls(len(within), kind) if self._deletes else _take(values, within).cast(kind)
            )
        return pa.table(columns)

    def none(self) -> np.ndarray:
        """A mask over all of them, false for each."""
        return np.zeros(len(self.pmids), bool)

    def positions(self, winners: dict[str, np.ndarray]) -> np.ndarray:
        """Where some of them (``shard`` and ``ordinal``) are in a mask."""
        found: np.ndarray = self._starts[winners["shard"]] + winners["ordinal"]
        return found

    def by_shard(self, mask: np.ndarray) -> list[np.ndarray]:
        """A mask over all of them as one for each shard."""
        return np.split(mask, self._starts[1:]) if len(self._starts) else []

    def count_empty(self, mask: np.ndarray) -> int:
        """How many of those in the mask have no text."""
        return int(np.count_nonzero(self._empty.to_numpy()[mask]))


def _take(values: pa.ChunkedArray, positions: np.ndarray) -> pa.ChunkedArray:
    """The values at some positions, which are sorted. pyarrow's own copies all of them into one
    array first."""
    parts, start = [], 0
    for chunk in values.chunks:
        low, high = np.searchsorted(positions, [start, start + len(chunk)])
        if low < high:
            parts.append(chunk.take(pa.array(positions[low:high] - start)))
        start += len(chunk)
    return pa.chunked_array(parts, values.type)


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
