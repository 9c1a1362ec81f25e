"""Completions to rows of the annotations table: the CPU step after the engines.

Reads GENERATED_SCHEMA; leaves FINISHED_SCHEMA, one row per citation. The offset invariant is
enforced here, where rows are made: a mention whose text differs from the citation's text at its
span never leaves this module. Left to others: committing the rows.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from engine.checkpoints.tokenizer import Decoded, PromptTokenizer
from engine.codecs import CODECS, Codec
from engine.codecs.marks import Marked
from engine.steps.align import Unplaced, align_mentions
from engine.steps.generate import GENERATED_SCHEMA
from engine.steps.prepare import tokenizer_of
from engine.steps.variants import fold
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
"""How many failed prompts of a citation are stored, and how many code points of each completion."""

FINISHED_SCHEMA = pa.schema(
    [
        *ANNOTATIONS_SCHEMA,
        pa.field("prompt_count", pa.int32()),
        pa.field("failures", pa.list_(FAILURE)),
        pa.field("unplaced", pa.list_(pa.struct([("reason", pa.string()), ("text", pa.string())]))),
        *(GENERATED_SCHEMA.field(n) for n in _FIGURES),
    ]
)
"""The table's columns, then those that the run's figures are counted from, which are not stored."""


@dataclass(slots=True)
class _Outcome:
    """What the completions of one citation came to.

    ``mentions`` are by (start, end, entity_type); ``failures`` has a FAILURE for each prompt that
    failed; ``lost`` is how many of them have no mentions, as against those that were cut off;
    ``unplaced`` are the marks that have no span in the text.
    """

    mentions: dict[tuple[int, int, str], dict[str, Any]] = field(default_factory=dict)
    unplaced: list[Unplaced] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    lost: int = 0


def finish(
    batch: pa.Table,
    checkpoint_ref: str,
    codec: str,
    annotator: str,
    run_id: str,
    store_text: bool,
    tokenizer_digest: str | None = None,
) -> pa.Table:
    """Decode and align the completions of a batch of citations, and make their rows.

    ``store_text``: whether the rows keep the citations' texts; they are null if not.

    Raises:
        JobError: if the checkpoint's tokenizer is not the one of ``tokenizer_digest``.
    """
    tokenizer = tokenizer_of(checkpoint_ref, tokenizer_digest)
    now = datetime.now(UTC)
    rows = []
    for row in batch.to_pylist():
        outcome = _read_completions(row, tokenizer, CODECS[codec])
        status, error = _status(row, outcome)
        rows.append(
            row
            | {
                "text": row["text"] if store_text else None,
                # Ordered by (start, end, entity_type).
                "mentions": [outcome.mentions[key] for key in sorted(outcome.mentions)],
                "status": status,
                "error": error,
                "annotator": annotator,
                "run_id": run_id,
                "annotated_at": now,
                "prompt_count": len(row["prompts"]),
                "failures": _stored_failures(row, outcome.failures),
                "unplaced": [asdict(u) for u in outcome.unplaced],
            }
        )
    return pa.Table.from_pylist(rows, schema=FINISHED_SCHEMA)


def _status(row: dict[str, Any], outcome: _Outcome) -> tuple[str, str | None]:
    """The status of a citation, and its error: None unless the status is partial or failed."""
    if row["error"]:  # no prompts could be made of it
        return "failed", row["error"]
    if failures := outcome.failures:
        prompts = len(row["prompts"])
        status = "partial" if outcome.lost < prompts else "failed"
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
    """What the model wrote, cut to the stored length; its token ids if they cannot be decoded."""
    try:
        return tokenizer.decode(completion["token_ids"]).text[:_MAX_COMPLETION]
    except Exception:  # decoding may be the very thing that failed
        return f"token ids {completion['token_ids']}"[:_MAX_COMPLETION]


def _stored_failures(row: dict[str, Any], failures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The failures of a citation that are stored: the first ones, or that no prompt was made."""
    if row["error"]:
        stage, _, reason = row["error"].partition(": ")
        return [{"stage": stage, "reason": reason}]
    return failures[:_MAX_FAILURES]


def _read_completions(row: dict[str, Any], tokenizer: PromptTokenizer, codec: Codec) -> _Outcome:
    """Take the mentions of one citation from its completions.

    Of several mentions with the same span and type the first is kept.
    """
    outcome = _Outcome()
    starts = [s["start"] for s in row["sentences"]]
    for prompt, completion in zip(row["prompts"], row["completions"], strict=True):
        if completion["error"]:
            outcome.failures.append(_failure("generate", completion["error"], prompt, None))
            outcome.lost += 1
            continue
        try:
            mentions, unplaced, cut_off = _align(
                row["text"], starts, prompt, completion, tokenizer, codec
            )
        except Exception as e:  # one prompt that fails must not fail the others
            raw = _raw(completion, tokenizer)
            outcome.failures.append(_failure("align", f"{type(e).__name__}: {e}", prompt, raw))
            outcome.lost += 1
            continue
        if cut_off:
            raw = _raw(completion, tokenizer)
            cause = f"cut off by the token limit of {prompt['max_tokens']}"
            outcome.failures.append(_failure("generate", cause, prompt, raw))
        outcome.unplaced += unplaced
        for mention in mentions:
            key = (mention["start"], mention["end"], mention["entity_type"])
            outcome.mentions.setdefault(key, mention)
    return outcome


def _align(
    text: str,
    starts: list[int],
    prompt: dict[str, Any],
    completion: dict[str, Any],
    tokenizer: PromptTokenizer,
    codec: Codec,
) -> tuple[list[dict[str, Any]], list[Unplaced], bool]:
    """The mentions of one completion, the marks that have no span in the text, and whether the
    token limit has cut the completion off before its end.

    ``starts`` are the offsets at which the citation's sentences begin.

    Raises:
        ValueError: if the text at a span is not the mention's, which would be the aligner's fault.
    """
    decoded = tokenizer.decode(completion["token_ids"])
    source = text[prompt["start"] : prompt["end"]]
    asked = prompt["entity_types"]
    marked = codec.decode(decoded.text, asked)
    plain = codec.decode(source, asked).text
    limited = completion["finish"] == "length"
    cut_off = limited and not _covers(marked, plain)
    if plain != source:
        # The text itself contains markers: those that the model added cannot be told from them.
        return [], [Unplaced("unreadable")] * (len(marked.marks) + len(marked.faults)), cut_off
    alignment = align_mentions(source, marked, truncated=limited)
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
    return mentions, alignment.unplaced, cut_off


def _covers(marked: Marked, source: str) -> bool:
    """Whether a completion has all of the source, so that the token limit cost no mention: it only
    did not end where it should have."""
    return "unclosed" not in marked.faults and fold(marked.text).letters.startswith(
        fold(source).letters
    )


def _score(decoded: Decoded, logprobs: Sequence[float], *markers: Span) -> float:
    """The lowest probability of the tokens that share a character with one of the markers.

    Raises:
        ValueError: if one of them is not a number, as from weights that overflow.
    """
    lowest = 0.0
    start = 0
    for end, logprob in zip(decoded.ends, logprobs, strict=True):
        if any(start < m.end and m.start < end for m in markers):
            if math.isnan(logprob):  # min() would pass over it, and the score would be 1
                raise ValueError("the model gives a marker a probability that is not a number")
            lowest = min(lowest, logprob)
        start = end
    return math.exp(lowest)
