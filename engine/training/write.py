"""A tuned model as a directory that ``annotate --checkpoint`` takes as it is."""

import shutil
from pathlib import Path
from typing import Any

from schemas.errors import JobError
from schemas.task import CheckpointManifest

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                   "chat_template.jinja")  # fmt: skip


def write_checkpoint(
    model: Any, tokenizer: Path, manifest: CheckpointManifest, card: str, to: Path, merge: bool
) -> None:
    """Write weights (bfloat16 safetensors), tokenizer, manifest and card.

    Of a model with an adapter only the adapter is written, unless ``merge`` folds it into its base.

    Written under another name and renamed: a checkpoint that stood there before stays until the
    new one is whole.

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
