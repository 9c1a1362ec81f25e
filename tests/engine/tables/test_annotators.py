"""What is kept of an annotator: nothing that lets one read its checkpoint."""

from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from engine.checkpoints.load import load_checkpoint
from engine.runs.pipeline import plan_engines
from engine.steps.annotator import annotator_of
from engine.tables.annotators import introduce, restore_annotator
from engine.tables.store import Store
from schemas.configs.options import EngineOptions
from schemas.errors import UsageError

FAKE = "fake_backend:FakeBackend"
SECRETS = ("S3CRETone", "S3/CRETtwo")


def test_a_checkpoint_is_known_by_where_it_is(
    tmp_path: Path, make_checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBMARK_CACHE", str(tmp_path / "cache"))
    made, store, fs = make_checkpoint("ck"), Store(str(tmp_path / "t")), fsspec.filesystem("memory")
    store.create()
    fingerprints = set()
    for secret in SECRETS:
        for file in made.iterdir():
            fs.pipe_file(f"/me:{secret}@kept/ck/{file.name}", file.read_bytes())
        annotator = annotator_of(f"memory://me:{secret}@kept/ck")
        introduce(store, annotator, "r")
        fingerprints.add(annotator.fingerprint)
    (row,) = store.read("annotators")
    assert {row["annotator"]} == fingerprints and row["checkpoint"] == "memory://kept/ck"
    # What the table says cannot be opened without credentials: the one who has them names it.
    load_checkpoint.cache_clear()
    with pytest.raises(UsageError, match="checkpoint memory://kept/ck"):
        restore_annotator(store, row["annotator"])
    moved = f"memory://me:{SECRETS[1]}@kept/ck"
    assert restore_annotator(store, row["annotator"], moved).fingerprint in fingerprints
    for file in tmp_path.rglob("*"):
        kept = str(file) + (file.read_bytes().decode("latin-1") if file.is_file() else "")
        assert not any(secret in kept for secret in SECRETS)


def test_what_the_engine_was_told_is_told_again(
    tmp_path: Path, make_checkpoint: Callable[[str], Path], ray_session: None
) -> None:
    store, path = Store(str(tmp_path / "t")), str(make_checkpoint("ck"))
    store.create()
    coarse = annotator_of(path, serving={"quantization": "fp8"})
    for annotator in (coarse, annotator_of(path)):
        introduce(store, annotator, "r")
    assert restore_annotator(store, coarse.fingerprint).serving == {"quantization": "fp8"}
    settings, _ = plan_engines(
        EngineOptions(backend=FAKE, engine_args={"seed": 3, "kv_cache_dtype": "fp8"}),
        restore_annotator(store, coarse.fingerprint),
    )
    assert settings.engine_args == {"seed": 3, "quantization": "fp8"}
