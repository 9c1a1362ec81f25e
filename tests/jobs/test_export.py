"""Export: what is written is read back by readers that know nothing of pubmark."""

import gzip
import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from engine.planning.settled import settled_pmids
from engine.steps.sentences import split_sentences
from engine.tables.committer import Committer
from engine.tables.store import Store
from engine.views.export import COLUMNS, write
from jobs.cli import app
from schemas.annotations import ANNOTATIONS_SCHEMA
from schemas.citation import digest_text, lay_out_text

ROOT = Path(__file__).parents[2]
TEXT_FORMATS = ["jsonl", "pubtator", "bioc-json"]
FORMATS = ["parquet", *TEXT_FORMATS]

Row = dict[str, Any]
Mentions = list[tuple[int, int, int, str, str]]
"""Of all citations: PMID, start, end, text and type, in the order of the file."""


def citation(pmid: int, title: str, abstract: str, *spans: tuple[int, int, str]) -> Row:
    text, title_length = lay_out_text(title, [(None, abstract)])
    sentences = split_sentences(text, title_length)
    mentions = [
        {
            "start": start, "end": end, "text": text[start:end], "entity_type": kind,
            "score": 0.9, "grade": "exact", "sentence": 0, "identifier": None,
        }
        for start, end, kind in sorted(spans)
    ]  # fmt: skip
    return {
        "pmid": pmid, "version": 1, "text": text, "title_length": title_length,
        "text_digest": digest_text(text),
        "sentences": [{"start": s.start, "end": s.end} for s in sentences], "mentions": mentions,
        "status": "ok", "annotator": "a", "run_id": "r", "annotated_at": datetime.now(UTC),
        "source": "s",
    }  # fmt: skip


def flat(rows: list[Row]) -> list[Row]:
    """A row per mention."""
    return [{"pmid": row["pmid"], **mention} for row in rows for mention in row["mentions"]]


def mentions_of(rows: list[Row]) -> Mentions:
    keys = ("pmid", "start", "end", "text", "entity_type")
    return [tuple(m[k] for k in keys) for m in flat(rows)]


WORDS = st.text(st.sampled_from("aB1.?|[\"'\\éβ漢😀"), min_size=1, max_size=6)
LINES = st.lists(WORDS, max_size=12).map(" ".join)


@st.composite
def citations(draw: st.DrawFn) -> list[Row]:
    rows = []
    for pmid in draw(st.lists(st.integers(1, 2**40), unique=True, max_size=5)):
        title, abstract = draw(LINES), draw(LINES)
        text, length = lay_out_text(title, [(None, abstract)])
        words = [i for i, c in enumerate(text) if c != " "]
        spans: set[tuple[int, int, str]] = set()
        if words:
            place = st.sampled_from(words)
            kinds = st.sampled_from(["gene", "cell line"])
            found = draw(st.lists(st.tuples(place, place, kinds), max_size=6))
            # A mention stands in the title or in the abstract.
            spans = {
                (min(a, b), max(a, b) + 1, kind)
                for a, b, kind in found
                if (a < length) == (b < length)
            }
        rows.append(citation(pmid, title, abstract, *spans))
        for mention in rows[-1]["mentions"]:
            mention["score"] = draw(st.none() | st.floats(0, 1, width=32))
            mention["identifier"] = draw(st.none() | st.just("MESH:D1"))
    return rows


def written(rows: list[Row], form: str) -> io.BytesIO:
    table = pa.Table.from_pylist(rows, ANNOTATIONS_SCHEMA).select(COLUMNS[form])
    out = io.BytesIO()
    write(table.to_batches(max_chunksize=2), form, out, zipped=False)
    return io.BytesIO(out.getvalue())


def read_pubtator(lines: str) -> tuple[dict[int, str], Mentions]:
    texts, mentions = {}, []
    for block in lines.split("\n\n")[:-1]:
        title, abstract, *rest = block.split("\n")
        pmid, mark, text = title.split("|", 2)
        assert mark == "t" and abstract.startswith(f"{pmid}|a|")
        if abstract := abstract.split("|", 2)[2]:
            text += " " + abstract
        texts[int(pmid)] = text
        for line in rest:
            key, start, end, surface, kind, _ = line.split("\t")
            assert key == pmid and text[int(start) : int(end)] == surface
            mentions.append((int(pmid), int(start), int(end), surface, kind))
    return texts, mentions


@settings(deadline=None)
@given(citations())
def test_pubtator_of_any_citations_read_back(rows: list[Row]) -> None:
    texts, mentions = read_pubtator(written(rows, "pubtator").read().decode())
    assert texts == {row["pmid"]: row["text"] for row in rows}
    assert mentions == mentions_of(rows)


@settings(deadline=None)
@given(citations())
def test_bioc_of_any_citations_read_back(rows: list[Row]) -> None:
    found: Mentions = []
    documents = json.load(written(rows, "bioc-json"))["documents"]
    for row, document in zip(rows, documents, strict=True):
        text = ""
        for passage in document["passages"]:
            text = text.ljust(passage["offset"]) + passage["text"]
            for a in passage["annotations"]:
                (place,) = a["locations"]
                start, end = place["offset"], place["offset"] + place["length"]
                inside = slice(start - passage["offset"], end - passage["offset"])
                assert passage["text"][inside] == a["text"]
                found.append((int(document["id"]), start, end, a["text"], a["infons"]["type"]))
        assert text == row["text"]
    assert found == mentions_of(rows)


@settings(deadline=None)
@given(citations())
def test_parquet_and_jsonl_of_any_citations_read_back(rows: list[Row]) -> None:
    assert pq.read_table(written(rows, "parquet")).to_pylist() == flat(rows)
    lines = [json.loads(line) for line in written(rows, "jsonl")]
    for line in lines:
        line["score"] = None if line["score"] is None else float(np.float32(line["score"]))
    assert lines == flat(rows)


# That reader takes a mention with "|a|" in it for an abstract.
@settings(deadline=None)
@given(citations().filter(lambda rows: not any("|a|" in row["text"] for row in rows)))
def test_the_registry_s_reader_reads_any_citations_back(rows: list[Row]) -> None:
    bioc = pytest.importorskip("bioc", reason="bioc is not installed")
    from bioc import biocjson, pubtator

    documents = pubtator.load(io.TextIOWrapper(written(rows, "pubtator"), encoding="utf-8"))
    for document in documents:
        pubtator.validate(document)
    keys = ("pmid", "start", "end", "text", "type")
    found = [tuple(getattr(a, k) for k in keys) for d in documents for a in d.annotations]
    assert [(int(pmid), *rest) for pmid, *rest in found] == mentions_of(rows)

    collection = biocjson.load(io.TextIOWrapper(written(rows, "bioc-json"), encoding="utf-8"))
    bioc.validate(collection)
    in_bioc = [
        (int(d.id), a.total_span.offset, a.total_span.end, a.text, a.infons["type"])
        for d in collection.documents
        for p in d.passages
        for a in p.annotations
    ]
    assert in_bioc == mentions_of(rows)


ROWS = [
    citation(1, "Aspirin in β-cells.", "It helps. So it does.", (0, 7, "chemical")),
    citation(2, "", "No title, aspirin.", (11, 18, "chemical")),
    citation(3, "No abstract", ""),
]


@pytest.mark.parametrize(
    ("row", "title"),
    [
        (ROWS[0], "Aspirin in β-cells."),
        (ROWS[1], ""),
        (ROWS[2], "No abstract"),
        (citation(4, "One. Two. Three.", "Four."), "One. Two. Three."),
    ],
)
def test_where_the_title_ends(row: Row, title: str) -> None:
    first = written([row], "pubtator").read().decode().split("\n")[0]
    assert first == f"{row['pmid']}|t|{title}"


# The command


def export(root: Path, to: Path | str, form: str, *options: str) -> Result:
    arguments = ["export", "--from", root, "--to", to, "--format", form, *options]
    return CliRunner().invoke(app, [str(a) for a in arguments])


def make_table(root: Path, rows: list[Row]) -> Path:
    store = Store(str(root))
    store.create()
    committer = Committer(store.load(), None, settled_pmids)
    for row in rows:  # a file each
        committer.commit(pa.Table.from_pylist([row], ANNOTATIONS_SCHEMA))
    return root


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    replaced = citation(1, "Older", "", (0, 5, "gene")) | {"annotator": "older"}
    return make_table(tmp_path_factory.mktemp("export") / "t", [replaced, *ROWS])


@pytest.mark.parametrize("form", FORMATS)
def test_each_format_holds_the_table_as_it_is_now(table: Path, tmp_path: Path, form: str) -> None:
    result = export(table, tmp_path / "out", form, "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"citations": 3, "mentions": 2})
    assert "2 mentions of 3 citations written to" in result.stderr
    content = (tmp_path / "out").read_bytes()
    if form == "parquet":
        found = pq.read_table(tmp_path / "out").sort_by("pmid")["pmid"].to_pylist()
        assert found == [1, 2]
    else:
        assert b"Older" not in content and content.count(b"spirin") >= 2
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("form", TEXT_FORMATS)
def test_gz_and_stdout_have_what_the_file_has(table: Path, tmp_path: Path, form: str) -> None:
    assert export(table, tmp_path / "out", form).exit_code == 0
    assert export(table, tmp_path / "out.gz", form).exit_code == 0
    content = (tmp_path / "out").read_bytes()
    assert gzip.decompress((tmp_path / "out.gz").read_bytes()) == content
    piped = export(table, "-", form, "--json")
    assert piped.stdout_bytes == content
    assert json.loads(piped.stderr.splitlines()[-1]) == {"citations": 3, "mentions": 2}


def test_a_file_that_is_there_is_replaced_only_if_told(table: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    refused = export(table, tmp_path / "out", "jsonl")
    assert refused.exit_code == 2 and "--force" in refused.stderr
    assert (tmp_path / "out").read_text() == "precious"
    assert export(table, tmp_path / "out", "jsonl", "--force").exit_code == 0
    assert len((tmp_path / "out").read_text().splitlines()) == 2


@pytest.mark.parametrize("form", ["pubtator", "bioc-json"])
def test_without_stored_text_nothing_is_written(tmp_path: Path, form: str) -> None:
    root = make_table(tmp_path / "t", [ROWS[0], ROWS[1] | {"text": None}])
    (tmp_path / "out").write_text("precious")
    result = export(root, tmp_path / "out", form, "--force")
    assert result.exit_code == 2
    assert "PMID 2: its text is not stored (--no-text)" in " ".join(result.stderr.split())
    assert (tmp_path / "out").read_text() == "precious"
    assert {p.name for p in tmp_path.iterdir()} == {"t", "out"}
    assert export(root, tmp_path / "out", "jsonl", "--force").exit_code == 0


def test_a_table_that_cannot_be_read_fails_and_leaves_nothing(tmp_path: Path) -> None:
    root = make_table(tmp_path / "t", ROWS)
    next((root / "annotations").glob("*.parquet")).unlink()
    result = export(root, tmp_path / "out", "jsonl")
    assert result.exit_code == 1 and "No such file" in " ".join(result.stderr.split())
    assert {p.name for p in tmp_path.iterdir()} == {"t"}


@pytest.mark.parametrize(
    ("to", "form", "said"),
    [
        ("-", "parquet", "neither written to stdout"),
        ("out.gz", "parquet", "nor zipped"),
        ("s3://bucket/out", "jsonl", "expected a local path"),
        ("nowhere/out", "jsonl", "cannot be written"),
        (".", "jsonl", "is not a file"),
    ],
)
def test_targets_that_cannot_be(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str, form: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = export(table, to, form)
    assert result.exit_code == 2 and said in " ".join(result.stderr.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_of_stdout_that_has_had_enough_is_no_accident(
    tmp_path: Path, unbuffered: str
) -> None:
    long = citation(1, "Aspirin", "word " * 1_000_000, (0, 7, "chemical"))
    command = [sys.executable, "-c", "from jobs.cli import main; main()", "export"]
    options = ["--from", make_table(tmp_path / "t", [long]), "--to", "-", "--format", "pubtator"]
    process = subprocess.Popen(
        [*command, *options],
        cwd=ROOT, env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout and process.stderr
    assert process.stdout.readline() == b"1|t|Aspirin\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(30) == 1


@pytest.mark.parametrize("form", TEXT_FORMATS)
def test_a_row_that_another_program_added_may_lack_what_we_always_store(form: str) -> None:
    row = citation(1, "A title.", "") | {"mentions": None, "title_length": None}
    batches = pa.Table.from_pylist([row], schema=ANNOTATIONS_SCHEMA).select(COLUMNS[form])
    out = io.BytesIO()
    write(batches.to_batches(), form, out, zipped=False)
    assert ("A title." in out.getvalue().decode()) == (form != "jsonl")
