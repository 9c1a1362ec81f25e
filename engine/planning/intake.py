"""Scanned shards held against the table: what a run over them has to do.

Enters: shards with what scanning them found, the config, the table as it is now. Leaves: a plan,
the shards in the order in which their records count, and what a new baseline no longer holds. Left
to others: doing it (runs/annotate.py).
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable

from engine.planning.baseline import baseline_year, vanished
from engine.planning.plan import Plan, make_plan, spoken_pmids
from engine.sources.nlm import nlm_number
from engine.sources.shards import Shard
from engine.tables.layout.files import NO_PMIDS
from engine.tables.ledger import Ledger
from engine.tables.reading import open_dataset, read_keys
from engine.tables.store import Store
from schemas.configs.annotate import AnnotateConfig
from schemas.errors import UsageError

logger = logging.getLogger(__name__)


class Intake:
    """The shards of one run, and the table that they are to be taken into.

    ``shards`` and ``scans`` (a row of SCAN_SCHEMA each) are in the order in which records count, as
    of the last :meth:`plan`; ``table`` (None: there is none yet) and ``ledger`` are of that state.
    """

    def __init__(
        self, config: AnnotateConfig, store: Store, shards: Sequence[Shard], scans: pa.Table
    ):
        self._config, self._store = config, store
        self.scans = scans.sort_by("shard")
        md5s = self.scans["md5"].to_pylist()
        self.shards = [replace(s, md5=m) for s, m in zip(shards, md5s, strict=True)]
        self.table: DeltaTable | None = None
        self.ledger = Ledger(store, None)

    @property
    def names(self) -> list[str]:
        """The shards' names."""
        return [s.name for s in self.shards]

    @property
    def baseline(self) -> int:
        """The year, two digits, of the newest complete baseline, given or taken in; 0 if none."""
        config = self._config
        given = baseline_year(self.shards) if config.baseline else 0
        return max(given, 0 if config.force else self.ledger.baseline or 0)

    def plan(self, annotator: str) -> Plan:
        """What is to be done as the table is now, for an annotator by fingerprint."""
        config, store = self._config, self._store
        self.table = store.load() if store.exists() else None
        self.ledger = Ledger(store, self.table)
        ranks = self._order()
        later: Iterable[tuple[int, pa.Array]] = ()
        if not config.force:  # which forgets what was taken in before
            later = self.ledger.later(self.names, ranks)
        newest = self.baseline
        outdated = sum((n := nlm_number(s)) is not None and n[0] < newest for s in self.names)
        spoken = spoken_pmids(self.scans)
        return make_plan(
            self.scans,
            None if self.table is None else read_keys(self.table, spoken),
            annotator,
            retry=config.retry,
            limit=config.limit,
            names=[] if config.force else self.names,
            later=later,
            outdated=outdated,
        )

    def vanished(self, plan: Plan) -> np.ndarray:
        """The PMIDs, sorted, of rows that the given baseline no longer holds.

        There are none if the plan leaves something for later, or the baseline was not read in full:
        a row may then only look as if it were gone.

        Raises:
            UsageError: if they are more than the share that may vanish.
        """
        config = self._config
        if not config.baseline or self.table is None or plan.is_cut:
            return NO_PMIDS
        if not plan.is_whole:
            logger.warning("what the baseline no longer holds is left: it was not read in full")
            return NO_PMIDS
        year = baseline_year(self.shards)
        recent = [
            i
            for i, name in enumerate(self.names)
            if (n := nlm_number(name)) is None or n[0] == year
        ]
        held = [spoken_pmids(self.scans.take(recent))]
        held += [p.to_numpy() for _, p in self.ledger.later(self.names, [(0, year, 0)])]
        stored = open_dataset(self.table).to_batches(columns=["pmid", "source"])
        gone = vanished(stored, np.unique(np.concatenate(held)))
        rows = self.table.count()
        if len(gone) > config.max_vanished * rows:
            raise UsageError(
                f"--baseline: {len(gone):,} of the {rows:,} citations in {self._store.root} are "
                f"not in the baseline of year {year}, more than the share of "
                f"{config.max_vanished:g} that may vanish (max_vanished); nothing was written"
            )
        return np.setdiff1d(gone, plan.gone)

    def _order(self) -> list[tuple[int, int, int]]:
        """Bring the shards into the order in which their records count; gives their ranks."""
        ranks = [self.ledger.rank(s.name, s.md5 or "") for s in self.shards]
        order = sorted(range(len(ranks)), key=ranks.__getitem__)
        self.shards = [self.shards[i] for i in order]
        numbers = pa.array(np.arange(len(order)), pa.int32())
        self.scans = self.scans.take(order).set_column(0, "shard", numbers)
        return [ranks[i] for i in order]
