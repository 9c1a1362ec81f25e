"""The annotator: everything that can change an answer, as one fingerprint."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.checkpoints.contents import Contents, contents_of
from engine.checkpoints.load import Checkpoint, load_checkpoint
from engine.codecs import CODEC_VERSION
from engine.steps.align import ALIGNER_VERSION
from engine.steps.prompts import PROMPTS_VERSION
from engine.steps.sentences import SPLITTER_VERSION
from schemas.citation import TEXT_LAYOUT_VERSION
from schemas.errors import UsageError
from schemas.task import Task


@dataclass(frozen=True, slots=True)
class Annotator:
    """A checkpoint doing a task. ``parts`` are what the fingerprint is made of, ``contents`` those
    of them that are in the checkpoint's files. ``serving`` are arguments of the engine that can
    change an answer, such as ``quantization``."""

    fingerprint: str
    checkpoint: Checkpoint
    task: Task
    parts: dict[str, object]
    contents: Contents
    serving: dict[str, Any] = field(default_factory=dict)


def annotator_of(
    reference: str,
    entity_types: list[str] | None = None,
    serving: Mapping[str, Any] | None = None,
) -> Annotator:
    """The annotator of a checkpoint by its name, for all of its entity types or some.

    Raises:
        UsageError: if the checkpoint is missing or cannot be served, or has no such entity type.
    """
    load_checkpoint.cache_clear()  # it may be another one than when it was last loaded
    checkpoint = load_checkpoint(reference)
    task = checkpoint.manifest.task
    try:
        chosen = task if entity_types is None else task.only(entity_types)
    except ValueError as e:
        raise UsageError(f"checkpoint {reference}: {e}") from e
    return make_annotator(checkpoint, chosen, serving)


def make_annotator(
    checkpoint: Checkpoint, task: Task, serving: Mapping[str, Any] | None = None
) -> Annotator:
    """Fingerprint a checkpoint and a task: 16 hex digits of BLAKE2b over :attr:`Annotator.parts`.

    Batching, speculation, backend and hardware are not part of it: they are not meant to change
    an answer.

    Raises:
        UsageError: if the checkpoint is an adapter and records another base than the one it has.
    """
    contents = contents_of(checkpoint)
    weights = contents.weights
    recorded = checkpoint.manifest.base_digest
    if checkpoint.adapter and recorded not in (None, weights):
        raise UsageError(
            f"checkpoint {checkpoint.ref}: tuned over another base, or another version of it: "
            f"pubmark.json has the digest {recorded}, and {checkpoint.path} has {weights}"
        )
    parts: dict[str, object] = {
        "weights": weights,
        "tokenizer": contents.tokenizer,
        "stop_token_ids": list(contents.stop_token_ids),
        "task": task.model_dump(mode="json"),
        "text_layout": TEXT_LAYOUT_VERSION,
        "sentence_splitter": SPLITTER_VERSION,
        "prompts": PROMPTS_VERSION,
        "codec": CODEC_VERSION,
        "aligner": ALIGNER_VERSION,
    }
    if checkpoint.adapter:
        # Its configuration says where its base is, which changes nothing, so not all of it counts.
        parts["adapter"] = contents.adapter
        parts["adapter_scale"] = checkpoint.adapter.scale
    if serving:
        parts["engine_args"] = dict(serving)
    canonical = json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()
    fingerprint = hashlib.blake2b(canonical, digest_size=8).hexdigest()
    return Annotator(fingerprint, checkpoint, task, parts, contents, dict(serving or {}))
