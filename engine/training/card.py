"""The model card of a tuned checkpoint.

Enters: a run's config, data and metrics. Leaves: Markdown. Left to others: writing it to a file.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from engine.training.data.material import Prepared
from schemas.configs.finetune import FinetuneConfig
from schemas.credentials import strip_all


def write_card(
    config: FinetuneConfig,
    prepared: Mapping[str, Prepared],
    curve: Sequence[Mapping[str, Any]],
    facts: Mapping[str, str],
) -> str:
    """Markdown that says what the checkpoint is, what it learned from, how good it is, and how.

    ``prepared`` is by stage; ``curve`` holds the metrics of each scoring of the dev split;
    ``facts`` are further lines by name, such as parameters, seconds and machine.
    """
    types = ", ".join(config.task.entity_types)
    lines = [f"# {config.name}", "", config.description or f"Marks {types} in biomedical text.", ""]
    lines += ["A supervised model, tuned by `pubmark finetune`.", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["", "## What it learned from", ""]
    for stage, data in prepared.items():
        what = "texts" if stage == "language" else "examples"
        leaks = ", ".join(f"{n} by {kind}" for kind, n in sorted(data.leaks.items())) or "none"
        lines.append(
            f"- {stage} stage: {data.rows:,} {what}; removed for sharing something with a test "
            f"split: {leaks}"
        )
    lines.append(f"- splits: {', '.join(config.tuning.splits)}")
    if curve:
        lines += [
            "",
            "## How good it became on the dev split",
            "",
            "Exact span and type, micro.",
            "",
        ]
        lines += ["| step | loss | P | R | F1 |", "| ---: | ---: | ---: | ---: | ---: |"]
    for row in curve:
        scores = (100 * row[k] for k in ("dev_precision", "dev_recall", "dev_f1"))
        lines.append(
            f"| {row['step']:,} | {row['loss']:.4f} | "
            + " | ".join(f"{score:.1f}" for score in scores)
            + " |"
        )
    settings = strip_all(
        config.model_dump(mode="json", exclude_defaults=True, exclude={"task", "to"})
    )
    lines += ["", "## Settings", "", "```json", json.dumps(settings, indent=2), "```", ""]
    return "\n".join(lines)
