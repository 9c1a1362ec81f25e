"""A tuned model written as a directory that ``annotate --checkpoint`` takes as it is.

Enters: the model, and the record of the run that tuned it. Leaves: weights, tokenizer, manifest and
card in one directory. Left to others: the card's text (card.py), and folding an adapter into its
base without a model (checkpoints/merge.py).
"""

import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.checkpoints.load import digest_weights
from engine.checkpoints.tokenizer import TOKENIZER_FILES
from engine.training.card import write_card
from engine.training.curve import Metrics
from engine.training.data.material import Prepared
from schemas.configs.finetune import FinetuneConfig
from schemas.credentials import without_credentials
from schemas.errors import JobError
from schemas.task import CheckpointManifest


@dataclass(frozen=True, slots=True)
class TuningRecord:
    """What a run did: its data, steps and metrics, each by stage; how many parameters the model
    has, those of an adapter included; and the seconds that the last call took."""

    prepared: Mapping[str, Prepared]
    steps: Mapping[str, int]
    curves: Mapping[str, Sequence[Metrics]]
    parameters: int
    seconds: float

    @property
    def scored(self) -> list[Metrics]:
        """The metrics of each scoring of the dev split."""
        return [row for row in self.curves["tuning"] if "dev_f1" in row]

    @property
    def loss(self) -> float | None:
        """The last loss of the tuning stage; null if it has no metrics."""
        return self.curves["tuning"][-1]["loss"] if self.curves["tuning"] else None

    @property
    def dev_f1(self) -> float | None:
        """The best F1 on the dev split; null if it was not scored."""
        return max((row["dev_f1"] for row in self.scored), default=None)


def write_tuned(
    config: FinetuneConfig,
    model: Any,
    record: TuningRecord,
    tokenizer: Path,
    base: Path | None,
    to: Path,
) -> None:
    """Write a tuned model with its manifest and card; see :func:`write_checkpoint`.

    ``tokenizer`` and ``base`` are directories, ``base`` null for a model made from nothing.

    Raises:
        JobError: if it cannot be written.
    """
    # An adapter is for these weights, not for others of the same sizes.
    is_adapter = config.lora and not config.merge
    manifest = CheckpointManifest(
        name=config.name,
        description=config.description,
        task=config.task,
        base_digest=digest_weights(base) if base and is_adapter else None,
    )
    card = write_card(config, record.prepared, record.scored, _facts(config, record))
    write_checkpoint(model, tokenizer, manifest, card, to, config.merge)


def write_checkpoint(
    model: Any, tokenizer: Path, manifest: CheckpointManifest, card: str, to: Path, merge: bool
) -> None:
    """Write weights (bfloat16 safetensors), tokenizer, manifest and card to ``to``.

    Of a model with an adapter only the adapter is written, unless ``merge`` folds it into its base.

    All is written under another name and renamed: a checkpoint that ``to`` held before stays until
    the new one is whole.

    Raises:
        JobError: if it cannot be written.
    """
    import torch
    from safetensors import SafetensorError

    part = to.with_name(f".{to.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        whole = model.merge_and_unload() if merge else model
        whole.to(torch.bfloat16).save_pretrained(part, safe_serialization=True)
        for name in TOKENIZER_FILES:
            if (tokenizer / name).exists():
                shutil.copyfile(tokenizer / name, part / name)
        (part / "pubmark.json").write_text(
            manifest.model_dump_json(indent=2, exclude_none=True) + "\n"
        )
        (part / "README.md").write_text(card, encoding="utf-8")
        old = to.with_name(f".{to.name}.old")
        if to.exists():
            shutil.rmtree(old, ignore_errors=True)
            to.rename(old)
        part.rename(to)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as e:
        shutil.rmtree(part, ignore_errors=True)
        raise JobError(f"{to}: the checkpoint cannot be written: {e}") from e


def _facts(config: FinetuneConfig, record: TuningRecord) -> dict[str, str]:
    """Lines of the card, by what each is about."""
    facts = {
        "parameters": f"{record.parameters:,}",
        "steps": ", ".join(f"{steps:,} of {stage}" for stage, steps in record.steps.items()),
        "tokens": ", ".join(f"{c[-1]['tokens']:,} of {n}" for n, c in record.curves.items() if c),
        "seconds, of the last call": f"{record.seconds:,}",
        "machine": f"{platform.machine()}, {platform.processor() or platform.system()}",
    }
    return facts | {"base": without_credentials(config.base)} if config.base else facts
