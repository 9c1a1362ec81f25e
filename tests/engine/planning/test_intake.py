"""Files held against a table: what a new baseline removes, and when it removes nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tables import put, rows

from engine.planning.intake import Intake
from engine.sources.read import scan_shard
from engine.sources.shards import find_shards
from engine.tables.layout.files import NO_PMIDS
from engine.tables.layout.rewrite import Rewrite
from engine.tables.layout.writer import write_rows
from engine.tables.store import Store
from schemas.configs.annotate import AnnotateConfig
from schemas.errors import UsageError

MakeIntake = Callable[..., Intake]


def xml(*pmids: int) -> str:
    records = "".join(
        f"<PubmedArticle><MedlineCitation><PMID>{p}</PMID><Article><ArticleTitle>Text {p}"
        "</ArticleTitle></Article></MedlineCitation></PubmedArticle>"
        for p in pmids
    )
    return f"<PubmedArticleSet>{records}</PubmedArticleSet>"


@pytest.fixture
def intake(store: Store, tmp_path: Path) -> MakeIntake:
    """Makes the intake of files, contents by name, over a table of PMIDs 1 to 10: 1 to 8 are from
    NLM's files of the year before, 9 and 10 from a file of one's own."""
    for pmids, source in ((range(1, 9), "pubmed25n0001.xml"), (range(9, 11), "mine.jsonl")):
        made = write_rows(store.load(), rows(pmids, source=source))
        put(store, Rewrite(made, [], NO_PMIDS))

    def make(files: dict[str, str], **options: Any) -> Intake:
        if options.get("baseline"):
            options = {"baseline_files": len(files)} | options
        folder = tmp_path / "in"
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_text(content)
        shards = find_shards([str(folder)])
        scans = pa.concat_tables([scan_shard(s, i) for i, s in enumerate(shards)])
        config = AnnotateConfig(sources=[str(folder)], to=store.root, **options)
        return Intake(config, store, shards, scans)

    return make


def removed(intake: Intake) -> list[int]:
    gone: np.ndarray = intake.vanished(intake.plan("a"))
    return gone.tolist()


def test_a_baseline_removes_nlms_rows_that_it_no_longer_holds(intake: MakeIntake) -> None:
    files = {"pubmed26n0001.xml": xml(1, 2, 3, 4), "pubmed26n0002.xml": xml(6, 7, 8)}
    assert removed(intake(files, baseline=True, max_vanished=0.1)) == [5]


def test_the_row_of_a_record_that_cannot_be_read_stays(intake: MakeIntake) -> None:
    files = {"pubmed26n0001.xml": xml(1, 2, 3, 4, 5, 6, 7).replace("Text 7", "Text & 7")}
    given = intake(files, baseline=True, max_vanished=0.1)
    assert removed(given) == [8] and given.baseline == 26


def test_more_than_may_vanish_is_refused(intake: MakeIntake) -> None:
    files = {"pubmed26n0001.xml": xml(1, 2, 3, 4, 5, 6)}
    given = intake(files, baseline=True, max_vanished=0.1)
    with pytest.raises(UsageError, match=r"2 of the 10 citations .* the share of 0\.1 that may"):
        removed(given)


def test_without_baseline_nothing_vanishes(intake: MakeIntake) -> None:
    assert removed(intake({"pubmed26n0001.xml": xml(1)}, max_vanished=1)) == []


def test_a_limit_that_leaves_something_removes_nothing(intake: MakeIntake) -> None:
    files = {"pubmed26n0001.xml": xml(1, 2, 3)}
    assert removed(intake(files, baseline=True, max_vanished=1, limit=2)) == []


def test_a_limit_that_leaves_nothing_removes(intake: MakeIntake) -> None:
    files = {"pubmed26n0001.xml": xml(1, 2, 3)}
    assert removed(intake(files, baseline=True, max_vanished=1, limit=3)) == [4, 5, 6, 7, 8]


def test_a_baseline_that_was_not_read_in_full_removes_nothing(
    intake: MakeIntake, caplog: pytest.LogCaptureFixture
) -> None:
    content = xml(1, 2, 3).removesuffix("</PubmedArticleSet>")
    given = intake({"pubmed26n0001.xml": content}, baseline=True, max_vanished=1)
    assert removed(given) == [] and given.baseline == 0
    assert "1 of its files were not read in full, the first 0001" in caplog.text


def test_shards_are_brought_into_the_order_in_which_records_count(intake: MakeIntake) -> None:
    files = {"mine.xml": xml(1), "pubmed26n0002.xml": xml(1), "pubmed26n0001.xml": xml(1)}
    given = intake(files)
    plan = given.plan("a")
    assert given.names == ["pubmed26n0001.xml", "pubmed26n0002.xml", "mine.xml"]
    assert given.scans["shard"].to_pylist() == [0, 1, 2]
    assert [mask.tolist() for mask in plan.wanted] == [[False], [False], [True]]


def test_nothing_vanishes_while_it_is_not_known_how_many_files_there_are(
    intake: MakeIntake,
) -> None:
    files = {"pubmed26n0001.xml": xml(1, 2, 3, 4)}
    given = intake(files, baseline=True, max_vanished=1, baseline_files=None)
    assert removed(given) == []
    assert given.given_baseline is None and given.baseline == 0
    (problem,) = given.problems
    assert "how many files it has is not known; expected `baseline_files`" in problem


def test_a_record_without_a_pmid_costs_itself(intake: MakeIntake) -> None:
    odd = "<PubmedArticle><MedlineCitation><Article/></MedlineCitation></PubmedArticle>"
    files = {"pubmed26n0001.xml": xml(1, 2, 3, 4, 5, 6, 7).replace("</PubmedArticleSet>", odd)}
    files = {name: content + "</PubmedArticleSet>" for name, content in files.items()}
    given = intake(files, baseline=True, max_vanished=0.1)
    plan = given.plan("a")
    assert len(plan.reports[0].rejected) == 1
    assert (given.vanished(plan).tolist(), given.baseline) == ([8], 26)
