"""One run's transactions on one table, each conditional on the state that it was planned on.

Enters: files written for a state of the table, and which PMIDs they are about. Leaves: a version of
the table that holds them, or the finding that another writer has changed what they were made from.
Left to others: what the files hold (committer.py, maintenance.py).

delta-rs would rebase a commit onto another writer's without a word, though both may have written
rows of the same PMIDs; so it is told not to retry, and what its failure means is decided here.
"""

import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError
from pyarrow.dataset import dataset

from engine.tables.commits import last_run
from engine.tables.exclusive import check_exclusive
from engine.tables.layout.files import filesystem, stored_files, touched
from engine.tables.layout.rewrite import Rewrite
from engine.tables.layout.writer import discard
from engine.tables.ledger import FILES_ID
from engine.tables.log import app_transactions
from schemas.errors import JobError, reason

logger = logging.getLogger(__name__)

MAX_TRIES = 20

_APP_ID = "pubmark"


class Overtaken(Exception):
    """Another writer changed what a run was planned on: plan again, and it costs little more."""


class Transactions:
    """The transactions of the run ``run_id`` on ``table``, which is the state last seen.

    ``overtaken`` says whether another writer has committed since the run was planned. ``check`` is
    given each state that another writer has left, and raises if the run cannot go on. ``notes``
    gives what each commit is to say beside that.
    """

    def __init__(
        self,
        table: DeltaTable,
        run_id: str,
        check: Callable[[DeltaTable], None] = lambda table: None,
        notes: Callable[[], Mapping[str, str]] = dict,
    ):
        self.table = table
        self.overtaken = False
        self._run_id, self._check, self._notes = run_id, check, notes

    @property
    def uri(self) -> str:
        """Where the table is."""
        return self.table.table_uri

    def reload(self) -> DeltaTable:
        """Go on from the newest state."""
        self.table = DeltaTable(self.uri)
        return self.table

    def take_over(
        self,
        done: Rewrite,
        pmids: np.ndarray,
        transactions: Sequence[Transaction] = (),
        data_change: bool = True,
        counts: dict[str, int] | None = None,
    ) -> bool:
        """Make the transaction that puts written files, with news about ``pmids``, in the table.

        False, and the files are deleted, if another writer changed what they were made from. The
        table is then its newest state.

        Raises:
            JobError: if the commit failed by itself, or others were faster MAX_TRIES times.
        """
        for _ in range(MAX_TRIES):
            try:
                version = self.transact(done, transactions, data_change, counts or {})
            except CommitFailedError as e:
                before, newest = self.table, self.reload()
                present = {f.path for f in stored_files(newest)}
                if done.added and {a.path for a in done.added} <= present:
                    self.overtaken = True
                    return True  # it was made, and only the answer was lost
                if newest.version() == before.version():  # nobody was faster: it failed by itself
                    discard(before, done.added)
                    raise JobError(f"{newest.table_uri}: commit failed: {reason(e)}") from e
                logger.info("another writer (run %s) was faster", last_run(newest) or "unknown")
                self.overtaken = True
                stands = _still_stands(done, pmids, transactions, before, newest)
                if not stands:
                    discard(newest, done.added)
                self._check(newest)
                if not stands:
                    return False
            else:
                # The very version that was made: another writer may have made one since.
                self.table = DeltaTable(self.uri, version=version)
                return True
        discard(self.table, done.added)
        raise self.too_slow()

    def transact(
        self,
        done: Rewrite,
        transactions: Sequence[Transaction],
        data_change: bool,
        counts: dict[str, int],
    ) -> int:
        """Make one transaction; gives the version that it makes. ``counts`` (rows by what was done
        with them) and the run stand in the table's log."""
        check_exclusive()
        sequence = (self.table.transaction_version(_APP_ID) or 0) + 1
        self.table.create_write_transaction(
            done.actions(data_change),
            mode="append",
            schema=self.table.schema(),
            commit_properties=CommitProperties(
                app_transactions=[Transaction(_APP_ID, sequence), *transactions],
                max_commit_retries=0,
                custom_metadata={
                    "pubmark.run_id": self._run_id,
                    **{f"pubmark.{name}": str(count) for name, count in counts.items() if count},
                    **self._notes(),
                },
            ),
        )
        return self.table.version() + 1

    def too_slow(self) -> JobError:
        """The error of a run that never came first."""
        return JobError(
            f"{self.uri}: other writers were faster {MAX_TRIES} times in a row, last run "
            f"{last_run(DeltaTable(self.uri)) or 'unknown'}"
        )


def _still_stands(
    done: Rewrite,
    pmids: np.ndarray,
    transactions: Sequence[Transaction],
    before: DeltaTable,
    newest: DeltaTable,
) -> bool:
    """Whether what was written for one state of the table is right for a newer one: the files that
    it replaces are there, and no new file holds one of its PMIDs."""
    taken_in = [app_transactions(table).get(FILES_ID) for table in (before, newest)]
    if (len(pmids) or transactions) and taken_in[0] != taken_in[1]:
        # Files were taken in: they may speak of our PMIDs without a row of theirs, and files of
        # ours come after them.
        return False
    old = {f.path for f in stored_files(before)}
    files = stored_files(newest)
    if not {f.path for f in done.removed} <= {f.path for f in files}:
        return False
    added = touched((f for f in files if f.path not in old), pmids)
    data = dataset([f.path for f in added], format="parquet", filesystem=filesystem(newest))
    return not added or not np.isin(data.to_table(columns=["pmid"])["pmid"], pmids).any()
