"""Scanned shards held against the table: what a run over them has to do.

Enters: shards with what scanning them found, the config, the table as it is now. Leaves: a plan,
the shards in the order in which their records count, and what a new baseline no longer holds. Left
to others: doing it (runs/annotate.py).
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from engine.planning.baseline import (
    baseline_year,
    check_complete,
    missing_numbers,
    numbers_of,
    vanished,
)
from engine.planning.plan import Plan, in_order, make_plan, no_keys, spoken_pmids
from engine.planning.settled import outranked_pmids
from engine.sources.nlm import nlm_number
from engine.sources.shards import Shard
from engine.tables.layout.files import NO_PMIDS, distinct
from engine.tables.ledger import FileKey, Ledger, key_of, rank_of
from engine.tables.reading import open_dataset, read_keys
from engine.tables.store import Store
from schemas.configs.annotate import AnnotateConfig
from schemas.errors import UsageError

logger = logging.getLogger(__name__)


class Intake:
    """The shards of one run, and the table that they are to be taken into.

    ``shards`` and ``scans`` (a row of SCAN_SCHEMA each) are in the order in which records count, as
    of the last :meth:`plan`; ``table`` (None: there is none yet) and ``ledger`` are of that state.
    ``given_baseline`` is the year, two digits, of the baseline that the run is given, if it is sure
    to be complete. ``problems`` are lines for a person.
    """

    def __init__(
        self, config: AnnotateConfig, store: Store, shards: Sequence[Shard], scans: pa.Table
    ):
        self._config, self._store = config, store
        self.scans = in_order(scans)
        md5s = self.scans["md5"].to_pylist()
        self.shards = [replace(s, md5=m) for s, m in zip(shards, md5s, strict=True)]
        self.table: DeltaTable | None = None
        self.ledger = Ledger(store, None)
        self.problems: list[str] = []
        self.given_baseline: int | None = None
        self._wanted: list[np.ndarray] = []

    @property
    def names(self) -> list[str]:
        """The shards' names."""
        return [s.name for s in self.shards]

    @property
    def baseline(self) -> int:
        """The year, two digits, of the newest complete baseline, given or taken in; 0 if none."""
        given = self.given_baseline or 0
        return max(given, 0 if self._config.force else self.ledger.baseline or 0)

    def plan(self, annotator: str) -> Plan:
        """What is to be done as the table is now, for an annotator by fingerprint.

        Raises:
            UsageError: if a baseline is given of which files are missing.
        """
        config, store = self._config, self._store
        self.table = store.load() if store.exists() else None
        self.ledger = Ledger(store, self.table)
        self.given_baseline = self._complete_baseline()
        self._order()
        later: Iterable[tuple[int, np.ndarray]] = ()
        if not config.force:  # which forgets what was taken in before
            later = self.ledger.later(self._keys)
        newest = self.baseline
        outdated = sum((n := nlm_number(s)) is not None and n[0] < newest for s in self.names)
        plan = make_plan(
            self.scans,
            no_keys if self.table is None else partial(read_keys, self.table),
            annotator,
            retry=config.retry,
            limit=config.limit,
            names=[] if config.force else self.names,
            later=later,
            outdated=outdated,
        )
        self._wanted = plan.wanted
        return plan

    def vanished(self, plan: Plan) -> np.ndarray:
        """The PMIDs, sorted, of rows that the given baseline no longer holds.

        There are none if the plan leaves something for later, or it is not known that the baseline
        was read in full: a row may then only look as if it were gone.

        Raises:
            UsageError: if they are more than the share that may vanish.
        """
        config, year = self._config, self.given_baseline
        if year is None or self.table is None or plan.is_cut:
            return NO_PMIDS
        recent = [
            i
            for i, name in enumerate(self.names)
            if (n := nlm_number(name)) is None or n[0] >= year
        ]
        given = set(self._keys)
        known = {
            key: None
            for key, position in self.ledger.files.items()
            if key not in given and rank_of(key[0], position) >= (0, year, 0, 0)
        }
        scans = self.scans.take(recent)
        # Of a record that cannot be read, the row stays as it is.
        held = [spoken_pmids(scans), pc.list_flatten(scans["broken"]).to_numpy()]
        held += [pmids for _, pmids in self.ledger.spoken(known)]
        stored = open_dataset(self.table).to_batches(columns=["pmid", "source"])
        gone = vanished(stored, distinct(*held))
        rows = self.table.count()
        if len(gone) > config.max_vanished * rows:
            raise UsageError(
                f"--baseline: {len(gone):,} of the {rows:,} citations in {self._store.root} are "
                f"not in the baseline of year {year}, more than the share of "
                f"{config.max_vanished:g} that may vanish (max_vanished); nothing was written"
            )
        return np.setdiff1d(gone, plan.gone)

    def superseded(self, stored: pa.Table, rows: pa.Table) -> pa.Array:
        """The PMIDs of ``rows``, which were made by the last plan, of which a later record has come
        since: in a file that another run has taken in, or, as far as the row in the table shows, is
        taking in; or that a baseline has left without a record.

        ``stored`` are the table's rows of these PMIDs; both have ``pmid`` and ``source``.
        """
        ledger = Ledger(self._store, self._store.load())
        pmids, own = rows["pmid"].to_numpy(), self._shards_of(rows)
        late = np.zeros(len(rows), bool)
        for position, theirs in ledger.later(self._keys, since=self.ledger.count):
            late |= (own < position) & np.isin(pmids, theirs)
        newest = 0 if self._config.force else ledger.baseline or 0
        years = np.array([n[0] if (n := nlm_number(s)) else newest for s in self.names])
        late |= years[own] < newest
        return pa.array(np.union1d(pmids[late], outranked_pmids(stored, rows)), pa.int64())

    @property
    def _keys(self) -> list[FileKey]:
        return [key_of(s.name, s.md5 or "") for s in self.shards]

    def _shards_of(self, rows: pa.Table) -> np.ndarray:
        """For each row, the index of the shard that it is from."""
        own = np.zeros(len(rows), np.int64)
        sources, pmids = rows["source"].to_numpy(), rows["pmid"].to_numpy()
        for name in set(sources):
            of_name = sources == name
            # Files in two folders may have one name: the plan tells whose record was wanted.
            for i in (i for i, n in enumerate(self.names) if n == name):
                held = self.scans["pmid"][i].values.to_numpy()[self._wanted[i]]
                own[of_name & np.isin(pmids, held)] = i
        return own

    def _complete_baseline(self) -> int | None:
        """The year of the given baseline, if it is sure that all of its files are there.

        Raises:
            UsageError: if one is sure to be missing.
        """
        config = self._config
        if not config.baseline:
            return None
        year = baseline_year(self.shards)
        taken_in = self.ledger.numbers(year)
        check_complete(numbers_of(self.shards, year) | taken_in, year, config.baseline_files)
        whole = (
            s
            for s, damage in zip(self.shards, self.scans["damage"], strict=True)
            if not damage.is_valid
        )
        missing = missing_numbers(numbers_of(whole, year) | taken_in, config.baseline_files)
        if config.baseline_files is None:
            self._warn(
                f"what the baseline of year {year} no longer holds is left: how many files it has "
                "is not known; expected `baseline_files`, or files that `pubmark mirror` fetched"
            )
        elif missing:
            self._warn(
                f"what the baseline of year {year} no longer holds is left: {len(missing)} of its "
                f"files were not read in full, the first {missing[0]:04}"
            )
        else:
            return year
        return None

    def _warn(self, problem: str) -> None:
        """Log a problem, once however often the run plans."""
        if problem not in self.problems:
            self.problems.append(problem)
            logger.warning("%s", problem)

    def _order(self) -> None:
        """Bring the shards into the order in which their records count."""
        ranks = [self.ledger.rank(*key) for key in self._keys]
        order = sorted(range(len(ranks)), key=ranks.__getitem__)
        if order == list(range(len(ranks))):
            return
        self.shards = [self.shards[i] for i in order]
        numbers = pa.array(np.arange(len(order)), pa.int32())
        self.scans = self.scans.take(order).set_column(0, "shard", numbers)
