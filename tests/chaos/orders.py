"""Give files to one table in any order, by up to three runs at once, and hold it against an oracle.

    python tests/chaos/orders.py --sequences 2000 --first-seed 1

The files are NLM's of two years and files of one's own: numbers posted again with other contents,
two files of one name in two folders, the same PMIDs in all of them, deletions in all kinds. Runs
get some of them, some twice, some with --limit, --retry or as a complete baseline; between runs the
table is compacted, vacuumed, or checkpointed. Runs at once take turns at every step where another
could come between: a seed decides whose turn it is. Some are killed there, as by kill -9.

At the end every file that was given is given once more to an undisturbed run, so that all are taken
in. Then the table must hold what the oracle says: all files applied in order, in plain Python. The
order is NLM's, and, of files that are equal in that or not NLM's, that in which their being taken
in was committed. JSON on the last line; exit code 1 if anything is amiss.
"""

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import without_ray
from deltalake import DeltaTable, Transaction

from engine.planning.intake import Intake
from engine.runs import annotate
from engine.runs.figures import Reporter
from engine.runs.interrupts import Interrupts
from engine.runs.result import Run, RunResult
from engine.sources.nlm import identity, nlm_number
from engine.sources.shards import digest_shard, find_shards
from engine.steps.annotator import annotator_of
from engine.tables.maintenance import compact, remove_leftovers, vacuum
from engine.tables.store import Store
from engine.tables.transactions import Transactions
from jobs import annotate as job
from schemas.configs.annotate import AnnotateConfig
from schemas.errors import JobError, UsageError

PMIDS = range(1, 13)
TEXTS = [f"Aspirin {word}" for word in ("alpha", "beta", "gamma", "delta")]
JOURNALS = ["Journal A", "Journal B"]
FAKE = "fake_backend:FakeBackend"
BASELINE_FILES = 2


@dataclass
class File:
    """A file: its path, what it holds by PMID (text and journal), and what it deletes."""

    path: Path
    held: dict[int, tuple[str, str]]
    deleted: list[int]

    @property
    def key(self) -> tuple[str, str]:
        (shard,) = find_shards([str(self.path)])
        return identity(shard.name), digest_shard(shard)


def make_files(folder: Path, rng: random.Random) -> list[File]:
    """NLM's files of two years, some posted again, and files of one's own."""
    names = [
        f"{where}/pubmed{year}n{number:04}.xml"
        for where in ("nlm", "again")
        for year in (26, 27)
        for number in (1, 2, 3, 4)
        if where == "nlm" or rng.random() < 0.4
    ]
    names += ["one/mine.xml", "two/mine.xml", "one/yours.xml"][: rng.randrange(4)]
    files = []
    for name in names:
        held = {
            pmid: (rng.choice(TEXTS), rng.choice(JOURNALS))
            for pmid in PMIDS
            if rng.random() < (0.5 if name.startswith("nlm") else 0.2)
        }
        deleted = [p for p in PMIDS if rng.random() < 0.1 and nlm_number(name) != (26, 1)]
        files.append(write(folder / name, held or {1: (TEXTS[0], JOURNALS[0])}, deleted))
    return files


def write(path: Path, held: dict[int, tuple[str, str]], deleted: list[int]) -> File:
    records = "".join(
        f"<PubmedArticle><MedlineCitation><PMID Version='1'>{pmid}</PMID><Article><Journal><Title>"
        f"{journal}</Title></Journal><ArticleTitle>{text} {pmid}</ArticleTitle></Article>"
        "</MedlineCitation></PubmedArticle>"
        for pmid, (text, journal) in held.items()
    )
    gone = "".join(f"<PMID Version='1'>{p}</PMID>" for p in deleted)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"<PubmedArticleSet>{records}"
        + (f"<DeleteCitation>{gone}</DeleteCitation>" if gone else "")
        + f"<!-- {path} --></PubmedArticleSet>"
    )
    return File(path, held, deleted)


@dataclass
class Oracle:
    """What was committed of files and baselines, in order, and what a table must then hold."""

    order: dict[tuple[str, str], int] = field(default_factory=dict)
    baseline: int = 0

    def note(self, transactions: Sequence[Transaction]) -> None:
        """Note what one transaction, which was made, says of files."""
        for transaction in transactions:
            if transaction.app_id.startswith("pubmark.file "):
                name, _, md5 = transaction.app_id.removeprefix("pubmark.file ").rpartition(" ")
                self.order.setdefault((name, md5), len(self.order))
            elif transaction.app_id == "pubmark.baseline":
                self.baseline = max(self.baseline, transaction.version)

    def rows(self, files: list[File]) -> dict[int, tuple[str, str]]:
        """Text and journal by PMID, once all files that were taken in are applied in order."""
        rows: dict[int, tuple[str, str]] = {}
        known = [(f, self.order[f.key]) for f in files if f.key in self.order]

        def rank(pair: tuple[File, int]) -> tuple[int, int, int, int]:
            number = nlm_number(pair[0].path.name)
            return (0, *number, pair[1]) if number else (1, 0, 0, pair[1])

        for file, _ in sorted(known, key=rank):
            number = nlm_number(file.path.name)
            if number and number[0] < self.baseline:
                continue
            rows |= {p: (f"{text} {p}", journal) for p, (text, journal) in file.held.items()}
            for pmid in file.deleted:
                rows.pop(pmid, None)
        return rows


class Turns:
    """Lets the runs of one group take turns, in an order that a seed decides."""

    def __init__(self, rng: random.Random, kill: float):
        self._rng, self._kill = rng, kill
        self._own = threading.local()
        self.killed = 0

    def pause(self) -> None:
        """Called by a run where another may come between; returns when it is its turn again."""
        mine = getattr(self._own, "turn", None)
        if mine is not None:
            mine.paused.release()
            mine.resumed.acquire()

    def run(self, works: Sequence[Callable[[], None]]) -> None:
        """Run all to their ends, but for those that are killed: they are never resumed."""
        alive = [_Turn(work, self._own) for work in works]
        while alive:
            turn = self._rng.choice(alive)
            turn.go()
            if turn.done:
                alive.remove(turn)
            elif self._rng.random() < self._kill:
                self.killed += 1
                alive.remove(turn)


class _Turn:
    def __init__(self, work: Callable[[], None], own: threading.local):
        self.resumed, self.paused = threading.Semaphore(0), threading.Semaphore(0)
        self.done = False
        self.error: BaseException | None = None

        def body() -> None:
            own.turn = self
            self.resumed.acquire()
            try:
                work()
            except BaseException as e:
                self.error = e
            self.done = True
            self.paused.release()

        threading.Thread(target=body, daemon=True).start()

    def go(self) -> None:
        self.resumed.release()
        self.paused.acquire()
        if self.error:
            raise self.error


class Order:
    """One random sequence over one table."""

    def __init__(self, folder: Path, seed: int):
        self._rng = random.Random(seed)
        self._folder = folder
        self.files = make_files(folder / "in", self._rng)
        self.oracle = Oracle()
        self.turns = Turns(self._rng, kill=0.01)
        self.store = Store(str(folder / "out"))
        self._given: list[File] = []
        self.runs = 0
        self.most_at_once = 0

    def play(self) -> list[str]:
        """Play it; gives what is amiss."""
        for _ in range(self._rng.randrange(2, 5)):
            group = [self._some_run() for _ in range(self._rng.choice((1, 2, 2, 3)))]
            self.most_at_once = max(self.most_at_once, len(group))
            self.turns.run(group)
            self._maintain()
        # All that was given is taken in, in any order.
        left = list(dict.fromkeys(f.path for f in self._given))
        self._rng.shuffle(left)
        for path in left:
            self._run([path], {})()
        return self._differences()

    def _some_run(self) -> Callable[[], None]:
        rng = self._rng
        files = rng.sample(self.files, rng.choice((1, 1, 2, 3)))
        options: dict[str, Any] = {"store_text": True, "commit_every_rows": rng.choice((1, 3, 100))}
        if rng.random() < 0.3:
            year = rng.choice((26, 27))
            files = [f for f in self.files if nlm_number(f.path.name) in ((year, 1), (year, 2))]
            files += [f for f in self.files if rng.random() < 0.1 and f not in files]
            if max(n[0] for f in files if (n := nlm_number(f.path.name))) == year:
                options |= {"baseline": True, "baseline_files": BASELINE_FILES, "max_vanished": 1}
        if rng.random() < 0.15:
            options["limit"] = rng.randrange(1, 4)
        if rng.random() < 0.2:
            options["retry"] = ["ok"]
        rng.shuffle(files)
        self._given += files
        return self._run([f.path for f in files], options)

    def _run(self, paths: Sequence[Path], options: dict[str, Any]) -> Callable[[], None]:
        def work() -> None:
            self.runs += 1
            for _ in range(20):
                try:
                    run_once(self.store, paths, **options)
                    return
                except JobError as e:  # others were faster: the same command goes on
                    if "other writers" not in str(e):
                        raise

        return work

    def _maintain(self) -> None:
        if not self.store.exists():
            return
        if self._rng.random() < 0.3:
            compact(self.store, "tidying")
        if self._rng.random() < 0.3:
            vacuum(self.store, 0)
        if self._rng.random() < 0.3:
            self.store.load().create_checkpoint()
        if self._rng.random() < 0.2:
            remove_leftovers(self.store)

    def _differences(self) -> list[str]:
        table = DeltaTable(self.store.uri("annotations")).to_pyarrow_table(
            columns=["pmid", "text", "journal", "source"]
        )
        stored = table.to_pylist()
        found = {row["pmid"]: (row["text"], row["journal"]) for row in stored}
        expected = self.oracle.rows(self.files)
        wrong = [f"PMID {p} stands twice" for p in found if sum(r["pmid"] == p for r in stored) > 1]
        missing = [f for f in self._given if f.key not in self.oracle.order]
        wrong += [f"{f.path} was not taken in" for f in missing]
        for pmid in PMIDS:
            if found.get(pmid) != expected.get(pmid):
                wrong.append(f"PMID {pmid}: {found.get(pmid)}, expected {expected.get(pmid)}")
        return wrong


def run_once(store: Store, paths: Sequence[Path], **options: Any) -> RunResult:
    """One run of annotate, on what is patched in the place of Ray."""
    config = AnnotateConfig(sources=[str(p) for p in paths], to=store.root, backend=FAKE, **options)
    annotator, config, shards, store = job._check(config)
    run = Run(annotator, config, store, Interrupts(), Reporter())
    annotate.annotate_shards(run, shards)
    return run.result


@contextmanager
def without_a_cluster() -> Iterator[pytest.MonkeyPatch]:
    """Runs do without Ray within the block."""
    with pytest.MonkeyPatch.context() as patch:
        without_ray.replace(patch.setattr)
        patch.setattr(without_ray, "time", SimpleNamespace(sleep=lambda seconds: None))
        # One engine for all runs: each has a thread that watches over it until the process ends.
        patch.setattr(without_ray, "EngineActor", cache(without_ray.EngineActor))
        yield patch


@contextmanager
def patched(sequence: list[Order]) -> Iterator[None]:
    """Runs without Ray, which pause where another could come between. ``sequence`` holds the one
    that is played."""

    def pausing(function: Callable[..., Any], after: bool) -> Callable[..., Any]:
        def paused(*args: Any, **kwargs: Any) -> Any:
            if not after:
                sequence[0].turns.pause()
            result = function(*args, **kwargs)
            if after:
                sequence[0].turns.pause()
            return result

        return paused

    transact = Transactions.transact

    def noted(self: Transactions, done: Any, transactions: Any, *rest: Any) -> int:
        sequence[0].turns.pause()
        version = transact(self, done, transactions, *rest)
        sequence[0].oracle.note(transactions)
        return version

    with without_a_cluster() as patch:
        patch.setattr(Transactions, "transact", noted)
        patch.setattr(Store, "append", pausing(Store.append, after=True))
        patch.setattr(Store, "create", pausing(Store.create, after=True))
        patch.setattr(Intake, "plan", pausing(Intake.plan, after=True))
        yield


def play(folder: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Play the sequences of some seeds; gives the figures of all."""
    figures: dict[str, Any] = {"sequences": 0, "runs": 0, "killed": 0, "wrong": []}
    playing: list[Order] = []
    annotator_of("nano", None)  # loaded once
    with patched(playing):
        for seed in seeds:
            with tempfile.TemporaryDirectory(dir=folder, prefix=f"{seed}-") as place:
                playing[:] = [sequence := Order(Path(place), seed)]
                try:
                    wrong = sequence.play()
                except (JobError, UsageError, AssertionError) as e:
                    wrong = [f"{type(e).__name__}: {e}"]
            for w in wrong:
                print(f"seed {seed}: {w}", file=sys.stderr, flush=True)
            figures["sequences"] += 1
            figures["runs"] += sequence.runs
            figures["killed"] += sequence.turns.killed
            figures["wrong"] += [f"seed {seed}: {w}" for w in wrong]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequences", type=int, default=200)
    parser.add_argument("--first-seed", type=int, default=1)
    args = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        seeds = range(args.first_seed, args.first_seed + args.sequences)
        figures = play(Path(folder), seeds)
    print(json.dumps(figures | {"seconds": round(time.monotonic() - began)}))
    sys.exit(1 if figures["wrong"] else 0)


if __name__ == "__main__":
    main()
