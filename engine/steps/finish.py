"""Completions to rows of the annotations table: the CPU step after the engines.

Reads GENERATED_SCHEMA; leaves FINISHED_SCHEMA. The offset invariant is enforced here, where rows
are made: a mention whose text is not what stands at its span never leaves this module.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from engine.checkpoints.load import load_checkpoint
from engine.checkpoints.tokenizer import Decoded, PromptTokenizer, load_tokenizer
from engine.codecs import CODECS, Codec
from engine.steps.align import Unplaced, align_mentions
from engine.steps.generate import GENERATED_SCHEMA
from schemas.annotations import ANNOTATIONS_SCHEMA, FAILURES_SCHEMA
from schemas.spans import Span

_FIGURES = ("prompt_tokens", "completion_tokens", "engine", "engine_start_seconds", "started",
            "finished")  # fmt: skip

FAILURE = pa.struct(
    [
        FAILURES_SCHEMA.field(n)
        for n in ("stage", "reason", "start", "end", "entity_types", "completion")
    ]
)

_MAX_FAILURES = 32
_MAX_COMPLETION = 4_000
"""What is kept of a citation's failed prompts: so many, and so many code points of each."""

FINISHED_SCHEMA = pa.schema(
    [
        *ANNOTATIONS_SCHEMA,
        pa.field("prompt_count", pa.int32()),
        pa.field("failures", pa.list_(FAILURE)),
        pa.field("unplaced", pa.list_(pa.struct([("reason", pa.string()), ("text", pa.string())]))),
        *(GENERATED_SCHEMA.field(n) for n in _FIGURES),
    ]
)
"""The table's columns, then what the run's figures are made of: they are not stored by row."""


@dataclass(slots=True)
class _Found:
    """What the completions of one citation gave. ``failures`` holds a FAILURE for each
    prompt that gave nothing, ``unplaced`` each mark that has no place."""

    mentions: dict[tuple[int, int, str], dict[str, Any]] = field(default_factory=dict)
    unplaced: list[Unplaced] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)


def finish(
    batch: pa.Table,
    checkpoint_ref: str,
    codec: str,
    annotator: str,
    run_id: str,
    store_text: bool,
) -> pa.Table:
    """Decode and align the completions of a batch of citations."""
    tokenizer = load_tokenizer(load_checkpoint(checkpoint_ref).tokenizer_path)
    now = datetime.now(UTC)
    rows = []
    for row in batch.to_pylist():
        found = _read_completions(row, tokenizer, CODECS[codec])
        status, error = _judge(row, found.failures)
        rows.append(
            row
            | {
                "text": row["text"] if store_text else None,
                # Ordered by (start, end, entity_type).
                "mentions": [found.mentions[key] for key in sorted(found.mentions)],
                "status": status,
                "error": error,
                "annotator": annotator,
                "run_id": run_id,
                "annotated_at": now,
                "prompt_count": len(row["prompts"]),
                "failures": _kept(row, found.failures),
                "unplaced": [asdict(u) for u in found.unplaced],
            }
        )
    return pa.Table.from_pylist(rows, schema=FINISHED_SCHEMA)


def _judge(row: dict[str, Any], failures: list[dict[str, Any]]) -> tuple[str, str | None]:
    """Status and error of a citation."""
    if row["error"]:  # no prompts could be made of it
        return "failed", row["error"]
    if failures:
        prompts = len(row["prompts"])
        status = "partial" if len(failures) < prompts else "failed"
        first = f"{failures[0]['stage']}: {failures[0]['reason']}"
        return status, f"{first} ({len(failures)} of {prompts} prompts failed)"
    return ("ok" if row["text"] else "empty"), None


def _failure(
    stage: str, reason: str, prompt: dict[str, Any], completion: str | None
) -> dict[str, Any]:
    return {
        "stage": stage,
        "reason": reason,
        "start": prompt["start"],
        "end": prompt["end"],
        "entity_types": prompt["entity_types"],
        "completion": completion,
    }


def _raw(completion: dict[str, Any], tokenizer: PromptTokenizer) -> str:
    """What the model wrote; its token ids where they cannot be read."""
    try:
        return tokenizer.decode(completion["token_ids"]).text[:_MAX_COMPLETION]
    except Exception:  # it may be what failed
        return f"token ids {completion['token_ids']}"[:_MAX_COMPLETION]


def _kept(row: dict[str, Any], failures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What ``failures`` keeps of a citation."""
    if row["error"]:
        stage, _, reason = row["error"].partition(": ")
        return [{"stage": stage, "reason": reason}]
    return failures[:_MAX_FAILURES]


def _read_completions(row: dict[str, Any], tokenizer: PromptTokenizer, codec: Codec) -> _Found:
    """Take the mentions of one citation from its completions, each span and type once."""
    found = _Found()
    starts = [s["start"] for s in row["sentences"]]
    for prompt, completion in zip(row["prompts"], row["completions"], strict=True):
        if completion["error"]:
            found.failures.append(_failure("generate", completion["error"], prompt, None))
            continue
        try:
            mentions, unplaced = _align(row["text"], starts, prompt, completion, tokenizer, codec)
        except Exception as e:  # one prompt's trouble is its own
            raw = _raw(completion, tokenizer)
            found.failures.append(_failure("align", f"{type(e).__name__}: {e}", prompt, raw))
            continue
        found.unplaced += unplaced
        for mention in mentions:
            key = (mention["start"], mention["end"], mention["entity_type"])
            found.mentions.setdefault(key, mention)
    return found


def _align(
    text: str,
    starts: list[int],
    prompt: dict[str, Any],
    completion: dict[str, Any],
    tokenizer: PromptTokenizer,
    codec: Codec,
) -> tuple[list[dict[str, Any]], list[Unplaced]]:
    """Mentions of one completion, and the marks that have no place.

    ``starts`` are where the citation's sentences begin.

    Raises:
        ValueError: if a span does not hold its mention, which would be a fault of the aligner.
    """
    decoded = tokenizer.decode(completion["token_ids"])
    source = text[prompt["start"] : prompt["end"]]
    asked = prompt["entity_types"]
    marked = codec.decode(decoded.text, asked)
    if codec.decode(source, asked).text != source:
        # It has markers of its own: who made those of the completion cannot be told.
        return [], [Unplaced("unreadable")] * (len(marked.marks) + len(marked.faults))
    alignment = align_mentions(source, marked, truncated=completion["finish"] == "length")
    mentions = []
    for placed in alignment.placed:
        span = placed.span.shift(prompt["start"])
        surface = text[span.start : span.end]
        if not surface or surface != source[placed.span.start : placed.span.end]:
            raise ValueError(f"span {tuple(span)} does not hold its mention")
        mentions.append(
            {
                "start": span.start,
                "end": span.end,
                "text": surface,
                "entity_type": placed.mark.entity_type or asked[0],
                "score": _score(
                    decoded, completion["logprobs"], placed.mark.opened, placed.mark.closed
                ),
                "grade": placed.grade,
                "sentence": bisect_right(starts, span.start) - 1,
                "identifier": None,
            }
        )
    return mentions, alignment.unplaced


def _score(decoded: Decoded, logprobs: Sequence[float], *markers: Span) -> float:
    """The lowest probability of a token that has a character of one of the markers."""
    lowest = 0.0
    start = 0
    for end, logprob in zip(decoded.ends, logprobs, strict=True):
        if any(start < m.end and m.start < end for m in markers):
            lowest = min(lowest, logprob)
        start = end
    return math.exp(lowest)
