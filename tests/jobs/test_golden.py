"""What must stay as it is for tables that exist: nano's fingerprint, and the rows of the sample.

Both are pinned. Where a change is meant to alter answers, a ``…_VERSION`` goes up and both are made
anew: ``PUBMARK_GOLDEN=write pytest tests/jobs/test_golden.py``, and the diff is read.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from engine.checkpoints.load import load_checkpoint
from engine.steps.annotator import make_annotator
from jobs.annotate import run
from schemas.annotations import ANNOTATIONS_SCHEMA
from schemas.configs.annotate import AnnotateConfig

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/data/golden_sample.jsonl"
NANO = "05be3109a6644fd6"
OF_THE_RUN = {"run_id", "annotated_at"}


def test_the_fingerprint_of_nano() -> None:
    checkpoint = load_checkpoint("nano")
    assert make_annotator(checkpoint, checkpoint.manifest.task).fingerprint == NANO


@pytest.mark.usefixtures("ray_session")
def test_the_rows_of_the_sample(tmp_path: Path) -> None:
    sample = str(ROOT / "jobs/sample")
    run(AnnotateConfig(sources=[sample], to=str(tmp_path), backend="fake_backend:FakeBackend"))
    table = DeltaTable(tmp_path / "annotations").to_pyarrow_table().sort_by("pmid")
    assert table.column_names == ANNOTATIONS_SCHEMA.names
    found = [plain(row) for row in table.to_pylist()]
    if os.environ.get("PUBMARK_GOLDEN") == "write":
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in found)
        GOLDEN.write_text("".join(lines), encoding="utf-8")
    assert found == [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row as JSON keeps it; of the text, whose digest is there, nothing."""
    kept = {n: v for n, v in row.items() if n not in OF_THE_RUN | {"text"}}
    return kept | {"text_digest": row["text_digest"].hex()}
