"""2,040 damaged files: each is read as far as it is good, in bounded time, without an exception."""

import gzip
import json
import random
import resource
import time
from pathlib import Path

import pytest
from mutants import HEAD, RECORD, TAIL, Mutant, make_file, make_mutant
from typer.testing import CliRunner

from engine.sources.read import read_citations, scan_shard
from engine.sources.shards import Shard
from jobs.cli import app

pytestmark = pytest.mark.chaos

MUTANTS = 2040
SECONDS = 2.0
"""CPU seconds that any of these small files may take; the slowest takes some 0.1."""


def shard(path: Path, data: bytes) -> Shard:
    path.write_bytes(data)
    return Shard(str(path), path.name, "pubmed-xml")


def sound(seed: int, path: Path) -> dict[int, dict[str, object]]:
    """The rows of the file of which a mutant is made."""
    data, _ = make_file(random.Random(seed))
    rows = [r for b in read_citations(shard(path, data)) for r in b.to_pylist()]
    return {int(r["pmid"]): r for r in rows}


def problem(seed: int, mutant: Mutant, folder: Path) -> str | None:
    """What is wrong with how a mutant is read."""
    file = shard(folder / "mutant.xml", mutant.data)
    began = time.process_time()
    try:
        scan = scan_shard(file, 0)
        rows = [r for b in read_citations(file) for r in b.to_pylist()]
    except Exception as e:
        return f"{type(e).__name__}: {e}"
    if (seconds := time.process_time() - began) > SECONDS:
        return f"{seconds:.1f} CPU seconds"
    pmids = scan["pmid"][0].as_py()
    if pmids != [r["pmid"] for r in rows]:
        return "scanned and read otherwise"
    if pmids[: len(mutant.whole)] != mutant.whole:
        return f"{pmids} read, {mutant.whole} were good"
    expected = sound(seed, folder / "sound.xml") if mutant.whole else {}
    for row, pmid in zip(rows, mutant.whole, strict=False):
        if row | {"source": ""} != expected[pmid] | {"source": ""}:
            return f"PMID {pmid} is not what it was"
    if mutant.refused and (rows or scan["damage"][0].as_py() is None):
        return "entities were not refused"
    if any("root:" in r["text"] for r in rows):
        return "an external entity was read"
    return None


@pytest.mark.parametrize("start", range(0, MUTANTS, 170))
def test_damaged_files(tmp_path: Path, start: int) -> None:
    wrong = {}
    for seed in range(start, start + 170):
        mutant = make_mutant(seed)
        if said := problem(seed, mutant, tmp_path):
            wrong[seed, mutant.kind] = said
    assert not wrong


@pytest.mark.parametrize("inside", ["", "<PubmedArticle>", "<PubmedArticle><MedlineCitation>"])
def test_bombs(tmp_path: Path, inside: str) -> None:
    """4 GB of blanks or tags behind a good record, in some megabytes of gzip."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    good = (HEAD + RECORD.format(1, 50, "fine")).encode()
    for filling in (b" ", b"<a/>"):
        piece = gzip.compress(filling * (1 << 22), 6)
        data = gzip.compress(good + inside.encode()) + piece * 256
        file = shard(tmp_path / "bomb.xml.gz", data)
        began = time.process_time()
        scan = scan_shard(file, 0)
        assert scan["pmid"][0].as_py() == [1]
        assert "MiB" in scan["damage"][0].as_py()["reason"]
        assert time.process_time() - began < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10


@pytest.mark.usefixtures("ray_session")
def test_the_command_line_tells_damage_without_a_traceback(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    seeds = [*range(17), *range(17, 170, 11)]
    for seed in seeds:
        (folder / f"{seed:03}.xml").write_bytes(make_mutant(seed).data)
    (folder / "good.xml").write_text(HEAD + RECORD.format(5, 50, "fine") + TAIL)
    result = CliRunner().invoke(
        app, ["annotate", str(folder), "--to", str(tmp_path / "t"), "--json",
              "--backend", "fake_backend:FakeBackend"],
    )  # fmt: skip
    assert result.exit_code == 3, result.stderr
    assert "Traceback" not in result.stderr
    printed = json.loads(result.stdout)
    assert printed["damaged"] > len(seeds) / 2
    assert printed["annotated"] == printed["read"] > 1
