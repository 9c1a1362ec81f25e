"""The annotator: everything that can change an answer, as one fingerprint."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from engine.align import ALIGNER_VERSION
from engine.checkpoint import Checkpoint, digest_files
from engine.codecs import CODEC_VERSION
from engine.prompts import PROMPTS_VERSION
from engine.sentences import SPLITTER_VERSION
from schemas.citation import TEXT_LAYOUT_VERSION
from schemas.task import Task


@dataclass(frozen=True, slots=True)
class Annotator:
    """A checkpoint doing a task. ``parts`` are what the fingerprint is made of."""

    fingerprint: str
    checkpoint: Checkpoint
    task: Task
    parts: dict[str, object]


def make_annotator(checkpoint: Checkpoint, task: Task) -> Annotator:
    """Fingerprint a checkpoint and a task: 16 hex digits of BLAKE2b over :attr:`Annotator.parts`.

    Batching, speculation, backend and hardware are not part of it: they are not meant to change
    an answer.
    """
    path = Path(checkpoint.path)
    parts: dict[str, object] = {
        "weights": digest_files([path / "config.json", *sorted(path.glob("*.safetensors"))]),
        "tokenizer": digest_files([path / "tokenizer.json"]),
        "stop_token_ids": list(checkpoint.stop_token_ids),
        "task": task.model_dump(mode="json"),
        "text_layout": TEXT_LAYOUT_VERSION,
        "sentence_splitter": SPLITTER_VERSION,
        "prompts": PROMPTS_VERSION,
        "codec": CODEC_VERSION,
        "aligner": ALIGNER_VERSION,
    }
    canonical = json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()
    fingerprint = hashlib.blake2b(canonical, digest_size=8).hexdigest()
    return Annotator(fingerprint, checkpoint, task, parts)
