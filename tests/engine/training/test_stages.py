"""A run's folder: whose it is, and which settings may change while it is resumed."""

from pathlib import Path
from typing import Any

import pytest

from engine.training.card import write_card
from engine.training.stages import claim_folder
from schemas.configs.finetune import FinetuneConfig
from schemas.errors import UsageError


def config(to: Path, **changes: Any) -> FinetuneConfig:
    values = {
        "to": str(to), "name": "tiny", "shape": {},
        "task": {"entity_types": {"disease": {"definition": "A disorder."}}, "template": "{text}"},
        "tuning": {"examples": ["a.parquet"], "optimisation": {"steps": 1}},
    }  # fmt: skip
    return FinetuneConfig.model_validate(values | changes)


def test_a_run_is_resumed_with_the_settings_that_it_was_begun_with(tmp_path: Path) -> None:
    folder = tmp_path / "tiny.run"
    claim_folder(folder, config(tmp_path / "tiny"), None)
    # What does not change the result may change.
    claim_folder(folder, config(tmp_path / "other", threads=1, workers=2, save_every=7), None)
    with pytest.raises(UsageError, match="holds a run begun with other settings"):
        claim_folder(folder, config(tmp_path / "tiny", seed=1), None)


def test_a_run_is_not_resumed_from_a_base_of_other_weights(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    (base / "model.safetensors").write_bytes(b"123")
    folder = tmp_path / "tiny.run"
    claim_folder(folder, config(tmp_path / "tiny"), base)
    claim_folder(folder, config(tmp_path / "tiny"), base)
    (base / "model.safetensors").write_bytes(b"456")
    with pytest.raises(UsageError, match="holds a run begun with other settings"):
        claim_folder(folder, config(tmp_path / "tiny"), base)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"file/run: cannot be written"):
        claim_folder(tmp_path / "file" / "run", config(tmp_path / "tiny"), None)


def test_a_run_goes_on_with_other_credentials_and_keeps_none(tmp_path: Path) -> None:
    folder = tmp_path / "tiny.run"
    for secret in ("S3CRETone", "S3CRETtwo"):
        held_out = [f"s3://AKIA:{secret}@bucket/a.parquet?X-Amz-Signature={secret}"]
        run = config(tmp_path / "tiny", held_out=held_out)
        claim_folder(folder, run, None)
        assert secret not in (folder / "config.json").read_text()
        card = write_card(run, {}, [], {})
        assert secret not in card and "s3://bucket/a.parquet" in card
    with pytest.raises(UsageError, match="other settings"):
        claim_folder(folder, config(tmp_path / "tiny", held_out=["s3://bucket/b.parquet"]), None)
