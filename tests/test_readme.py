"""The README's Python, run as it stands there, on a table in which a row was replaced."""

import ast
import importlib.util
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from engine.planning.settled import settled_pmids
from engine.tables.committer import Committer
from engine.tables.store import Store
from schemas.annotations import ANNOTATIONS_SCHEMA
from schemas.citation import digest_text

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)


def modules(block: str) -> set[str]:
    nodes = list(ast.walk(ast.parse(block)))
    found = [a.name for n in nodes if isinstance(n, ast.Import) for a in n.names]
    found += [n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)]
    return {name.split(".")[0] for name in found}


@pytest.fixture(scope="module", params=["plain", "pub #1? {é} 100% q'\"*"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("readme") / request.param
    store = Store(str(made / "demo"))
    store.create()
    committer = Committer(store.load(), None, settled_pmids)
    row = {"text": "x", "text_digest": digest_text("x"), "mentions": [], "status": "ok"}
    row |= {"annotated_at": datetime.now(UTC)}
    for annotator, pmids in (("older", [1, 2]), ("a", [2, 3, 4]), ("a", [5])):
        rows = [row | {"pmid": p, "annotator": annotator} for p in pmids]
        committer.commit(pa.Table.from_pylist(rows, ANNOTATIONS_SCHEMA))
    return made


def test_four_readers_are_shown_in_a_few_lines_each() -> None:
    assert max(len([line for line in b.splitlines() if line]) for b in BLOCKS) <= 5
    readers = set().union(*map(modules, BLOCKS))
    assert readers == {"deltalake", "duckdb", "pandas", "polars", "pyarrow", "urllib"}


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: "-".join(sorted(modules(b))))
def test_a_snippet_reads_each_citation_once(folder: Path, block: str) -> None:
    if missing := [m for m in modules(block) if importlib.util.find_spec(m) is None]:
        pytest.skip(f"{', '.join(missing)} is not installed")
    # As a full path, whose odd characters its URIs then have.
    code = block.replace('"demo/annotations"', repr(f"{folder}/demo/annotations"))
    code += "print(len(citations))"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "5\n"), done.stderr
