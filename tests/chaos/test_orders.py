"""What a table holds is what all files, applied in order, come to, whoever writes.

Some orders by name, and random ones in short; orders.py plays thousands.
"""

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import without_ray
from deltalake import DeltaTable
from nlm_server import nlm_server
from orders import FAKE, File, play, run_once, without_a_cluster, write

from engine.planning.intake import Intake
from engine.refresh.turn import RefreshResult
from engine.runs.result import RunResult
from engine.tables.ledger import Ledger
from engine.tables.store import Store
from jobs import refresh
from schemas.configs.refresh import MirrorPart, RefreshConfig

pytestmark = pytest.mark.chaos


class Table:
    """A table in ``folder/out``, and files in ``folder``."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch):
        self._folder, self._patch = folder, patch
        self.store = Store(str(folder / "out"))

    def file(self, name: str, held: dict[int, str], deleted: tuple[int, ...] = ()) -> File:
        return write(
            self._folder / name, {p: (text, "Journal") for p, text in held.items()}, list(deleted)
        )

    def give(self, *files: File, **options: Any) -> RunResult:
        if options.get("baseline"):
            options = {"baseline_files": len(files), "max_vanished": 1} | options
        return run_once(self.store, [f.path for f in files], **options)

    def give_while_planned(self, file: File, other: Callable[[], object], **options: Any) -> None:
        """Give a file; just after it was planned first, ``other`` comes between."""
        plan, came = Intake.plan, []

        def planned(self: Intake, annotator: str) -> Any:
            done = plan(self, annotator)
            if not came:
                came.append(1)
                other()
            return done

        self._patch.setattr(Intake, "plan", planned)
        self.give(file, **options)
        self._patch.setattr(Intake, "plan", plan)

    @property
    def texts(self) -> dict[int, str]:
        rows = DeltaTable(self.store.uri("annotations")).to_pyarrow_table(columns=["pmid", "text"])
        return {r["pmid"]: r["text"].rpartition(" ")[0] for r in rows.to_pylist()}


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    with without_a_cluster() as patch:
        yield Table(tmp_path, patch)


def test_of_two_files_of_one_name_the_later_counts(table: Table) -> None:
    first, second = table.file("1/mine.xml", {5: "First"}), table.file("2/mine.xml", {5: "Second"})
    table.give(first)
    table.give(second)
    assert table.give(first).annotated == 0
    assert table.give(second, first).annotated == 0
    assert table.texts == {5: "Second"}


def test_a_number_that_nlm_posts_again_replaces_the_first(table: Table) -> None:
    posted = table.file("1/pubmed26n0002.xml", {5: "First", 6: "Six"})
    again = table.file("2/pubmed26n0002.xml", {5: "Second"})
    older = table.file("1/pubmed26n0001.xml", {5: "Older"})
    table.give(posted)
    table.give(again)
    assert table.give(posted, older).annotated == 0
    assert table.texts == {5: "Second", 6: "Six"}


def test_a_file_that_another_run_takes_in_meanwhile_is_later(table: Table) -> None:
    old, new = table.file("a.xml", {5: "Old"}), table.file("b.xml", {5: "New"})
    table.give(old)
    table.give_while_planned(old, lambda: table.give(new), retry=["ok"])
    assert table.texts == {5: "New"}


def test_what_another_run_deletes_meanwhile_stays_deleted(table: Table) -> None:
    old, deleting = (
        table.file("a.xml", {5: "Old", 6: "Six"}),
        table.file("c.xml", {7: "Seven"}, (5,)),
    )
    table.give_while_planned(old, lambda: table.give(old, deleting))
    assert table.texts == {6: "Six", 7: "Seven"}


def test_an_update_of_the_old_year_counts_no_more_once_a_baseline_has_come(table: Table) -> None:
    old = table.file("pubmed26n0001.xml", {1: "One", 5: "Five"})
    update = table.file("pubmed26n0002.xml", {9: "Withdrawn", 5: "Five revised"})
    new = table.file("pubmed27n0001.xml", {1: "One"})
    table.give(old)
    table.give_while_planned(update, lambda: table.give(new, baseline=True))
    assert table.texts == {1: "One"}
    table.give(update)
    assert table.texts == {1: "One"}


def test_without_its_last_file_a_baseline_removes_nothing(table: Table) -> None:
    old = [table.file(f"pubmed26n{n:04}.xml", {n: "Old"}) for n in range(1, 5)]
    new = [table.file(f"pubmed27n{n:04}.xml", {n: "New"}) for n in range(1, 4)]
    table.give(*old)
    result = table.give(*new[:2], baseline=True, baseline_files=None)
    assert result.deleted == 0 and "is not known" in result.problems[0]
    assert table.texts == {1: "New", 2: "New", 3: "Old", 4: "Old"}
    # What was taken in before need not be given again.
    assert table.give(new[2], baseline=True, baseline_files=3).deleted == 1
    assert table.texts == {1: "New", 2: "New", 3: "New"}


def test_however_often_a_run_is_overtaken_its_files_are_stored_once(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [table.file(f"x{n}.xml", {50 + n: "Other"}) for n in range(3)]
    files = [table.file(f"pubmed26n{n:04}.xml", {n: "Text"}, (n - 1,)) for n in range(2, 6)]
    table.give(table.file("pubmed26n0001.xml", {1: "Text"}))
    take_in, busy = Ledger.take_in, []

    def overtaken(self: Ledger, *args: Any) -> Any:
        transactions = take_in(self, *args)
        if others and not busy:
            busy.append(1)
            table.give(others.pop())
            busy.clear()
        return transactions

    monkeypatch.setattr(Ledger, "take_in", overtaken)
    table.give(*files)
    names = [row["name"] for row in table.store.read("files", ["name"])]
    assert sorted(names) == sorted({*names}) and len(names) == 8
    assert sorted(Ledger(table.store, table.store.load()).files.values()) == list(range(1, 9))
    assert table.texts == {5: "Text", 50: "Other", 51: "Other", 52: "Other"}


def test_random_orders(tmp_path: Path) -> None:
    figures = play(tmp_path, range(1, 6))
    assert figures["wrong"] == []
    assert figures["runs"] > 35


def test_a_turn_finishes_a_baseline_with_a_record_without_pmid(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.runs.cluster.connected", without_ray.connected)
    odd = "<PubmedArticle><MedlineCitation><Article/></MedlineCitation></PubmedArticle>"

    def publish(kind: str, name: str, held: dict[int, str], more: str = "") -> None:
        content = table.file(f"made/{name}", held).path.read_text()
        content = content.replace("<!--", more + "<!--")
        server.publish(kind, f"{name}.gz", gzip.compress(content.encode(), mtime=0))

    def turn() -> RefreshResult:
        return refresh.run(
            RefreshConfig(
                to=table.store.root,
                mirror=MirrorPart(
                    to=str(tmp_path / "mirror"), source=server.url, retries=0,
                    kinds=["baseline", "updates"],
                ),
                backend=FAKE,
                gate=None,
                max_vanished=1,
            )
        )  # fmt: skip

    with nlm_server() as server:
        publish("baseline", "pubmed25n0001.xml", {1: "One", 2: "Two"})
        publish("baseline", "pubmed25n0002.xml", {3: "Three", 4: "Four"})
        assert turn().annotated == 4
        server.files.clear()
        publish("baseline", "pubmed26n0001.xml", {1: "One", 2: "Two"}, odd)
        publish("baseline", "pubmed26n0002.xml", {3: "Three", 5: "Five"})
        publish("updatefiles", "pubmed26n0003.xml", {2: "Two revised"})
        result = turn()
        assert (result.files, result.annotated, result.deleted, result.exit_code()) == (3, 2, 1, 3)
        assert len(result.problems) == 1 and "rejected" in result.problems[0]
        assert table.texts == {1: "One", 2: "Two revised", 3: "Three", 5: "Five"}
        again = turn()
        assert (again.outcome, again.files, again.problems) == ("nothing to do", 0, [])
