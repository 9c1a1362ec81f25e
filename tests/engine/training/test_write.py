"""What is written of a run: manifest, card, and the figures in them."""

from pathlib import Path
from typing import Any

import pytest

from engine.checkpoints.load import digest_weights
from engine.training.data.material import Prepared
from engine.training.write import TuningRecord, write_tuned
from schemas.configs.finetune import FinetuneConfig
from schemas.task import CheckpointManifest


class Model:
    """Passes for a model; only where it is written to is of interest."""

    def to(self, dtype: Any) -> "Model":
        return self

    def merge_and_unload(self) -> "Model":
        return self

    def save_pretrained(self, folder: Path, safe_serialization: bool) -> None:
        assert safe_serialization
        (folder / "model.safetensors").write_bytes(b"new")


def record(*rows: dict[str, float]) -> TuningRecord:
    prepared = {"tuning": Prepared("folder", 380, {"sentence": 2})}
    return TuningRecord(prepared, {"tuning": 30}, {"tuning": rows}, 6_976_512, 1.5)


SCORED = {"dev_precision": 0.5, "dev_recall": 0.5, "dev_f1": 0.5}
CURVE = (
    {"step": 10, "loss": 3.0, "tokens": 1000},
    {"step": 20, "loss": 2.0, "tokens": 2000, **SCORED},
    {"step": 30, "loss": 1.0, "tokens": 3000, **SCORED, "dev_f1": 0.25},
)


def test_the_record_has_the_last_loss_and_the_best_score() -> None:
    done = record(*CURVE)
    assert (done.loss, done.dev_f1, [r["step"] for r in done.scored]) == (1.0, 0.5, [20, 30])
    assert (record().loss, record().dev_f1) == (None, None)


@pytest.mark.parametrize("merge", [False, True])
def test_an_adapter_is_bound_to_the_weights_of_its_base(tmp_path: Path, merge: bool) -> None:
    base, to = tmp_path / "base", tmp_path / "tuned"
    base.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (base / name).write_text("{}")
    (base / "model.safetensors").write_bytes(b"123")
    to.mkdir()
    (to / "old").write_text("")
    config = FinetuneConfig.model_validate(
        {
            "to": str(to), "name": "tiny", "base": "some/base", "lora": {}, "merge": merge,
            "task": {"entity_types": {"disease": {"definition": "A disorder."}},
                     "template": "{text}"},
            "tuning": {"examples": ["a.parquet"], "optimisation": {"steps": 30}},
        }
    )  # fmt: skip
    write_tuned(config, Model(), record(*CURVE), base, base, to)
    manifest = CheckpointManifest.model_validate_json((to / "pubmark.json").read_bytes())
    assert manifest.base_digest == (None if merge else digest_weights(base))
    card = (to / "README.md").read_text()
    for line in (
        "- parameters: 6,976,512",
        "- steps: 30 of tuning",
        "- tokens: 3,000 of tuning",
        "- base: some/base",
        "- tuning stage: 380 examples; removed for sharing something with a test split: "
        "2 by sentence",
        "| 30 | 1.0000 | 50.0 | 50.0 | 25.0 |",
    ):
        assert line in card
    assert {p.name for p in to.iterdir()} == {
        "README.md", "model.safetensors", "pubmark.json", "tokenizer.json"
    }  # fmt: skip
    assert not list(tmp_path.glob(".tuned*"))
