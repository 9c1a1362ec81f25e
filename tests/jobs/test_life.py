"""PubMed's life: files in order, late, twice; deletions and returns; a new baseline; crashes.

After each run the table is what a model of the rules says, and the model was asked about exactly
the texts that were not there before.
"""

import hashlib
import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from life import HAND_MADE, Model, Nlm, Template
from lxml import etree
from small_files import make_small

from engine.checkpoints.load import load_checkpoint
from engine.runs import datasets, pipeline
from engine.sources.read import read_citations, scan_shard
from engine.sources.shards import Shard
from engine.steps.annotator import Annotator
from engine.steps.finish import FINISHED_SCHEMA
from engine.steps.prepare import load_prompter
from engine.steps.sentences import split_sentences
from engine.tables import committer
from engine.tables.committer import Committer
from engine.tables.store import Store
from engine.tables.transactions import Transactions
from engine.views.history import past_runs
from engine.views.sql import open_views
from jobs import annotate as job
from jobs.annotate import RunResult, run
from schemas.configs.annotate import AnnotateConfig
from schemas.errors import UsageError

STORED = ("version", "title_length", "pub_year", "journal", "language", "doi", "publication_types")


def stored(to: Path) -> dict[int, dict[str, Any]]:
    table = DeltaTable(to / "annotations").to_pyarrow_table()
    found = {row["pmid"]: row for row in table.to_pylist()}
    assert len(found) == len(table), "a PMID stands twice"
    return found


class Life:
    """A table beside its model, given the same files."""

    def __init__(self, to: Path, prompts: Callable[[str, int], int], **options: Any):
        self.to, self._prompts, self._options = to, prompts, options
        self.model = Model()

    def run(self, *paths: Path, **options: Any) -> RunResult:
        sources = [str(p) for p in paths]
        return run(AnnotateConfig(sources=sources, to=str(self.to), **self._options, **options))

    def give(self, *paths: Path, baseline: bool = False) -> RunResult:
        """Let both take files in, and assert that work, prompts and rows are the model's."""
        before = self.model.rows()
        self.model.take_in(paths, baseline)
        after = self.model.rows()
        files = len(paths) if baseline else None
        result = self.run(*paths, baseline=baseline, baseline_files=files)
        changed = [c for p, c in after.items() if p not in before or before[p].text != c.text]
        assert result.annotated == len(changed)
        assert result.figures.prompts == sum(self._prompts(c.text, c.title_length) for c in changed)
        assert result.deleted == len(before.keys() - after.keys())
        self.compare()
        return result

    def compare(self) -> None:
        """Assert that the table holds the model's rows, and nothing else."""
        rows, expected = stored(self.to), self.model.rows()
        assert rows.keys() == expected.keys()
        for pmid, citation in expected.items():
            row = rows[pmid]
            assert row["text"] == citation.text
            assert [row[n] for n in STORED] == [getattr(citation, n) for n in STORED], pmid
            for m in row["mentions"]:
                assert row["text"][m["start"] : m["end"]] == m["text"]

    def versions(self) -> int:
        return DeltaTable(self.to / "annotations").version()


def live(life: Life, nlm: Nlm, size: int, of_each: int) -> None:
    """A baseline, ten updates out of order and twice, the next year's baseline."""
    life.give(*nlm.baseline(25, size, 2))
    updates = {n: nlm.update(25, n, of_each) for n in range(3, 13)}
    for given in ([3], [4], [8], [5, 6], [7], [4], [10, 12], [9, 11], [11, 3]):
        life.give(*(updates[n] for n in given))
    version = life.versions()
    assert life.give(*updates.values()).deleted == 0
    assert life.versions() == version, "nothing changed, and yet something was written"
    life.give(*nlm.baseline(26, size + 5, 2), baseline=True)
    life.give(nlm.update(26, 3, of_each))
    life.give(updates[12], updates[5])  # of the year before: nothing of theirs comes back


# With Ray, and the fake backend


@pytest.fixture
def on_ray(tmp_path: Path, ray_session: None) -> Life:
    checkpoint = load_checkpoint("nano")
    task = checkpoint.manifest.task.only(["gene"])
    prompter = load_prompter(checkpoint.ref, task.model_dump_json())

    def prompts(text: str, title_length: int) -> int:
        spans = split_sentences(text, title_length)
        return len(list(prompter.make_prompts(text, spans, title_length)))

    options = {"backend": "fake_backend:FakeBackend", "entity_types": ["gene"]}
    return Life(tmp_path / "t", prompts, **options)


def test_life_of_a_few_citations(on_ray: Life, tmp_path: Path) -> None:
    nlm = Nlm(tmp_path, HAND_MADE.format, seed=1)
    on_ray.give(*nlm.baseline(25, 40, 2))
    third, fourth = nlm.update(25, 3, 2), nlm.update(25, 4, 2)
    assert on_ray.give(fourth).revised == 2
    on_ray.give(third, fourth)


@pytest.mark.slow
def test_life_of_thousands_of_real_citations(on_ray: Life, tmp_path: Path, shared: Path) -> None:
    template = real_template(shared / "data/pubmed-xml")
    live(on_ray, Nlm(tmp_path, template, seed=1), size=1_000, of_each=20)
    assert stored(on_ray.to).keys() == on_ray.model.rows().keys()


def real_template(folder: Path) -> Template:
    """Real records under other PMIDs. Abstracts are cut short: the fake model answers fast, but
    nine sentences of each of 2,000 take their time."""
    found = []
    for path in sorted(folder.rglob("*.xml*")):
        try:
            tree = etree.parse(path, etree.XMLParser(load_dtd=False, no_network=True))
        except etree.XMLSyntaxError:
            continue
        for article in tree.iterfind(".//PubmedArticle"):
            pmid, title, journal = (
                article.find(f"MedlineCitation/{p}")
                for p in ("PMID", "Article/ArticleTitle", "Article/Journal/Title")
            )
            if pmid is None or title is None or journal is None:
                continue
            pmid.text, title.text = "@PMID@", f"@TEXT@{title.text or ''}"
            journal.text = f"@JOURNAL@{journal.text or ''}"
            article.find("MedlineCitation").set("Status", "@STATUS@")
            for number, part in enumerate(article.findall(".//Abstract/AbstractText")):
                text = "".join(part.itertext())
                part.clear()
                part.text = text[:150] if number == 0 else None
            found.append(etree.tostring(article, encoding="unicode", with_tail=False))
    assert len(found) > 300

    def template(pmid: int, text: int, metadata: int, rest: int) -> str:
        record = found[pmid % len(found)].replace("@PMID@", str(pmid))
        record = record.replace("@TEXT@", f"BRCA{text} " if text else "")
        return record.replace("@JOURNAL@", "New " * metadata).replace("@STATUS@", f"S{rest}")

    return template


# Without Ray: hundreds of runs in a minute


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads and annotates in this process: one prompt each, no mentions."""

    def scan(shards: list[Shard]) -> pa.Table:
        return pa.concat_tables(scan_shard(s, i) for i, s in enumerate(shards))

    def prepared(shards: list[Shard], wanted: list[np.ndarray], *_: Any) -> Any:
        return list(zip(shards, wanted, strict=True))

    def annotate(
        citations: list[Any], annotator: Annotator, *_: Any, **__: Any
    ) -> Iterator[pa.Table]:
        for shard, mask in citations:
            for batch in read_citations(shard, mask, 3):
                rows = [
                    row | {
                        "sentences": [], "mentions": [], "status": "ok", "error": None,
                        "annotator": annotator.fingerprint, "run_id": _[3],
                        "annotated_at": datetime.now(UTC), "prompt_count": 1,
                        "failures": [],
                        "prompt_tokens": 1, "completion_tokens": 1, "unplaced": [], "engine": "e",
                        "engine_start_seconds": 0.0, "started": 0.0, "finished": 1.0,
                    }
                    for row in batch.to_pylist()
                ]  # fmt: skip
                yield pa.Table.from_pylist(rows, schema=FINISHED_SCHEMA)

    def read_metadata(shards: list[Shard], revised: list[np.ndarray]) -> Iterator[pa.Table]:
        for shard, mask in zip(shards, revised, strict=True):
            yield from datasets._metadata(shard, np.packbits(mask), len(mask))

    def count_prompts(citations: list[Any]) -> tuple[int, int]:
        count = sum(int(mask.sum()) for _, mask in citations)
        return count, count

    monkeypatch.setattr(pipeline, "annotate", annotate)
    for function in (scan, prepared, read_metadata, count_prompts):
        monkeypatch.setattr(datasets, function.__name__, function)
    monkeypatch.setattr(job, "connected", lambda verbose: nullcontext())
    monkeypatch.setattr(pipeline, "pool_resources", lambda *_: (1.0, 0.0, 1))


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of many files, in which nearly every replacement is staged."""
    make_small(monkeypatch, ROWS_PER_FILE=8, ROWS_PER_GROUP=4)
    monkeypatch.setattr(committer, "_ROWS_READ_AT_ONCE", 0)
    monkeypatch.setattr(committer, "_ROWS_READ_PER_REPLACED", 3)


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize("seed", range(1))
def test_life_in_short(tmp_path: Path, seed: int) -> None:
    life = Life(tmp_path / "t", lambda text, length: 1, commit_every_rows=7)
    live(life, Nlm(tmp_path, HAND_MADE.format, seed), 60, 2)
    assert stored(life.to).keys() == life.model.rows().keys()


@pytest.mark.usefixtures("no_ray", "small_files")
@pytest.mark.parametrize("seed", range(3))
def test_any_order(tmp_path: Path, seed: int) -> None:
    nlm, order = Nlm(tmp_path, HAND_MADE.format, seed), random.Random(seed)
    life = Life(tmp_path / "t", lambda text, length: 1, commit_every_rows=7)
    paths = nlm.baseline(25, 30, 2) + [nlm.update(25, n, 1) for n in range(3, 9)]
    given = paths + order.sample(paths, 4)
    order.shuffle(given)
    while given:
        life.give(*(given.pop() for _ in range(min(len(given), order.randint(1, 3)))))
    assert stored(life.to).keys() == life.model.rows().keys()


@pytest.fixture
def life(tmp_path: Path, no_ray: None) -> Life:
    return Life(tmp_path / "t", lambda text, length: 1)


@pytest.fixture
def nlm(tmp_path: Path) -> Nlm:
    return Nlm(tmp_path, HAND_MADE.format, seed=0)


def test_dry_run_tells_what_changed_apart(life: Life, nlm: Nlm) -> None:
    life.give(*nlm.baseline(25, 40, 2))
    later = nlm.update(25, 4, 1)
    life.give(later)
    update = nlm.update(25, 3, 3)
    before = life.versions()
    counts = life.run(update, dry_run=True).dry_run
    assert counts is not None
    states = ("new", "text_changed", "metadata_changed", "unchanged", "superseded", "deleted")
    # 3 new ones, 1 that came back, 3 of each revision; what the later file speaks of is its own.
    assert sum(counts[s] for s in states[:-1]) == 13
    assert (counts["new"], counts["unchanged"]) == (4, 3) or counts["superseded"] > 0
    assert counts["prompts"] == counts["to_annotate"] == counts["new"] + counts["text_changed"]
    assert life.versions() == before
    life.give(update)


def test_a_baseline_must_be_complete(life: Life, nlm: Nlm) -> None:
    life.give(*nlm.baseline(25, 40, 2))
    new = nlm.baseline(26, 45, 3)
    with pytest.raises(UsageError, match=r"year 26 up to 0003, 1 are neither among .* 0002"):
        life.run(new[0], new[2], baseline=True)
    with pytest.raises(UsageError, match="no file of NLM's"):
        life.run(new[0].rename(new[0].with_name("mine.xml.gz")), baseline=True)
    life.compare()


def test_a_baseline_that_would_remove_too_much_removes_nothing(life: Life, nlm: Nlm) -> None:
    life.give(*nlm.baseline(25, 40, 2))
    before = life.versions()
    with pytest.raises(UsageError, match=r"20 of the 40 citations in .* are not in the baseline"):
        half = nlm._write(26, 1, sorted(nlm.live)[::2])
        life.run(half, baseline=True, baseline_files=1)
    assert life.versions() == before
    # Without being said to be one, it is but a file.
    life.run(nlm._write(26, 1, sorted(nlm.live)[::2]))
    assert len(stored(life.to)) == 40


def test_a_damaged_baseline_removes_nothing_and_is_not_taken_in(life: Life, nlm: Nlm) -> None:
    life.give(*nlm.baseline(25, 40, 2))
    (whole,) = nlm.baseline(26, 42, 1)
    data = whole.read_bytes()
    whole.write_bytes(data[:-100])
    result = life.run(whole, baseline=True, baseline_files=1, max_vanished=1.0)
    assert (result.damaged, result.deleted) == (1, 0)
    whole.write_bytes(data)
    life.run(whole, baseline=True, baseline_files=1)
    life.model.take_in([whole], baseline=True)
    life.compare()


def test_files_that_are_not_nlms_count_by_when_they_first_came(life: Life, tmp_path: Path) -> None:
    def write(name: str, *titles: str) -> Path:
        path = tmp_path / name
        lines = ({"pmid": i, "title": t} for i, t in enumerate(titles, 1))
        path.write_text("\n".join(map(json.dumps, lines)))
        return path

    def texts() -> list[str]:
        return [r["text"] for _, r in sorted(stored(life.to).items())]

    first, second = write("first.jsonl", "a", "b"), write("second.jsonl", "c")
    life.run(first)
    life.run(second)
    assert texts() == ["c", "b"]
    assert life.run(first).annotated == 0  # given twice: it came before the second
    life.run(write("first.jsonl", "d", "e"))  # another file of the same name
    assert texts() == ["d", "e"]
    record = HAND_MADE.format(1, 0, 0, 0)
    nlm = tmp_path / "pubmed25n0001.xml"
    nlm.write_text(f"<PubmedArticleSet>{record}</PubmedArticleSet>")
    life.run(nlm)
    assert texts() == ["d", "e"]  # NLM's come first, whenever they are given


def test_which_files_were_taken_in_is_in_the_tables_own_transactions(life: Life, nlm: Nlm) -> None:
    (path,) = nlm.baseline(25, 12, 1)
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    life.run(path, limit=5)
    table = DeltaTable(life.to / "annotations")
    name = f"pubmark.file {path.name} {digest}"
    assert table.transaction_version(name) is None  # something is left to do
    life.run(path)
    table = DeltaTable(life.to / "annotations")
    assert table.transaction_version(name) == 1
    table.create_checkpoint()
    for file in (life.to / "annotations/_delta_log").glob("*.json"):
        file.unlink()  # the clean-up of the log
    assert DeltaTable(life.to / "annotations").transaction_version(name) == 1


class Crash(Exception):
    """Nothing that the job catches."""


@contextmanager
def crashing(chances: random.Random, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two in five transactions die, before or after they are made."""
    transact = DeltaTable.create_write_transaction

    def die_or_transact(*args: Any, **kwargs: Any) -> None:
        if (chance := chances.random()) < 0.2:
            raise Crash
        transact(*args, **kwargs)
        if chance < 0.4:
            raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(DeltaTable, "create_write_transaction", die_or_transact)
        yield


@pytest.mark.chaos
@pytest.mark.usefixtures("no_ray", "small_files")
@pytest.mark.parametrize("seed", range(2))
def test_crashes_change_nothing_in_the_end(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    nlm, chances = Nlm(tmp_path, HAND_MADE.format, seed), random.Random(seed)
    life = Life(tmp_path / "t", lambda text, length: 1, commit_every_rows=4)
    paths = nlm.baseline(25, 30, 2) + [nlm.update(25, n, 2) for n in range(3, 8)]
    crashes = 0
    for path in paths:
        life.model.take_in([path])
        while True:
            try:
                with crashing(chances, monkeypatch):
                    life.run(path)
                break
            except Crash:
                crashes += 1
                stored(life.to)  # which asserts that each stands once, also in between
        life.compare()
    assert crashes > 2
    again = life.run(*paths)
    assert again.annotated == 0 and again.deleted == 0
    life.compare()


@pytest.mark.usefixtures("no_ray", "small_files")
def test_what_was_staged_before_a_crash_is_not_annotated_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = Life(tmp_path / "t", lambda text, length: 1, commit_every_rows=100)
    nlm = Nlm(tmp_path, HAND_MADE.format, seed=0)
    life.give(*nlm.baseline(25, 60, 1))
    for pmid in sorted(nlm.live)[::10]:  # one in every file
        nlm.live[pmid][0] += 1
    revised = nlm._write(25, 2, sorted(nlm.live)[::10])
    with monkeypatch.context() as patched:
        patched.setattr(Committer, "finish", crash)
        with pytest.raises(Crash):
            life.run(revised)
    life.compare()  # readers see nothing of it
    life.model.take_in([revised])
    assert life.run(revised).annotated == 0
    life.compare()
    assert not DeltaTable(tmp_path / "t/staged").file_uris()


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize("made", [0, 1, 2])
def test_a_kill_while_the_tables_are_made_changes_nothing(
    tmp_path: Path, made: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = Life(tmp_path / "t", lambda text, length: 1)
    source = Nlm(tmp_path, HAND_MADE.format, seed=0).baseline(25, 5, 1)
    make, left = Store._make, made

    def make_or_crash(self: Store, name: str) -> None:
        nonlocal left
        if not left:
            raise Crash
        left -= 1
        make(self, name)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "_make", make_or_crash)
        with pytest.raises(Crash):
            life.run(*source)
    life.give(*source)


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize("missing", ["annotators", "runs"])
def test_a_companion_that_is_missing_is_an_empty_one(tmp_path: Path, missing: str) -> None:
    life = Life(tmp_path / "t", lambda text, length: 1)
    nlm = Nlm(tmp_path, HAND_MADE.format, seed=0)
    life.give(*nlm.baseline(25, 5, 1))
    shutil.rmtree(tmp_path / "t" / missing)  # as a kill left it when annotations was made first
    count = open_views(str(tmp_path / "t")).execute(f"SELECT count(*) FROM {missing}").fetchone()
    assert count == (0,)
    past_runs(Store(str(tmp_path / "t")))
    life.give(nlm.update(25, 2, 1))
    assert Store(str(tmp_path / "t")).read(missing)


def crash(*_: Any, **__: Any) -> None:
    raise Crash


@pytest.mark.usefixtures("no_ray", "small_files")
@pytest.mark.parametrize("seed", range(2))
def test_runs_in_the_middle_of_each_other(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    nlm, chances = Nlm(tmp_path, HAND_MADE.format, seed), random.Random(seed)
    life = Life(tmp_path / "t", lambda text, length: 1, commit_every_rows=4)
    life.give(*nlm.baseline(25, 30, 1))
    given = [nlm.update(25, n, 2) for n in range(2, 8)]
    life.model.take_in(given)
    chances.shuffle(given)
    transact, overtaken = Transactions.transact, 0

    def let_another_go_first(self: Transactions, *args: Any) -> int:
        nonlocal overtaken
        if given and chances.random() < 0.5:
            overtaken += 1
            life.run(given.pop())
        return transact(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(Transactions, "transact", let_another_go_first)
        while given:
            life.run(given.pop())
    assert overtaken
    life.compare()
