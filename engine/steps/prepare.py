"""Citations to prompts: the CPU step before the engines.

Reads CITATION_SCHEMA; adds ``sentences``, ``prompts`` and ``error`` (PREPARED_SCHEMA).
"""

from collections.abc import Sequence
from functools import lru_cache

import pyarrow as pa

from engine.checkpoints.contents import check_tokenizer
from engine.checkpoints.load import load_checkpoint
from engine.checkpoints.tokenizer import PromptTokenizer, load_tokenizer
from engine.steps.annotator import Annotator
from engine.steps.prompts import Prompter
from engine.steps.sentences import split_sentences
from schemas.annotations import SPAN
from schemas.citation import CITATION_SCHEMA
from schemas.spans import Span, trim
from schemas.task import Task

_PROMPT = pa.struct(
    [
        ("start", pa.int32()),
        ("end", pa.int32()),
        ("entity_types", pa.list_(pa.string())),
        ("max_tokens", pa.int32()),
        ("token_ids", pa.list_(pa.int32())),
    ]
)

PREPARED_SCHEMA = pa.schema(
    [
        *CITATION_SCHEMA,
        pa.field("sentences", pa.list_(SPAN)),
        pa.field("prompts", pa.list_(_PROMPT)),
        pa.field("error", pa.string()),
    ]
)
"""A prompt asks about ``text[start:end]``. ``error`` is set where a citation could not be made
into prompts; it then has none."""


@lru_cache(maxsize=4)
def load_prompter(
    checkpoint_ref: str, task_json: str, tokenizer_digest: str | None = None
) -> Prompter:
    """The prompter of a checkpoint and a task (as JSON), made once in a process.

    Raises:
        JobError: if the checkpoint's tokenizer is not the one of ``tokenizer_digest``.
    """
    task = Task.model_validate_json(task_json)
    tokenizer = tokenizer_of(checkpoint_ref, tokenizer_digest)
    return Prompter(task, tokenizer, load_checkpoint(checkpoint_ref).context_tokens)


@lru_cache(maxsize=4)
def tokenizer_of(checkpoint_ref: str, digest: str | None = None) -> PromptTokenizer:
    """The tokenizer of a checkpoint by its name, loaded once in a process.

    Raises:
        JobError: if it is not the one of ``digest``; None is any.
    """
    checkpoint = load_checkpoint(checkpoint_ref)
    if digest is None:
        return load_tokenizer(checkpoint.tokenizer_path)
    tokenizer = PromptTokenizer(checkpoint.tokenizer_path)
    check_tokenizer(checkpoint, digest)  # after it was loaded, so that it is what was loaded
    return tokenizer


def longest_prompt(annotator: Annotator) -> int:
    """Tokens of the longest prompt that the annotator may make and of its completion together.

    Raises:
        UsageError: if the template does not fit the checkpoint.
    """
    task = annotator.task.model_dump_json()
    tokenizer = annotator.contents.tokenizer
    return load_prompter(annotator.checkpoint.ref, task, tokenizer).context_tokens


def check_template(annotator: Annotator) -> None:
    """Make an annotator's prompter, to see that its template fits its checkpoint.

    Raises:
        ValueError: if it does not.
    """
    longest_prompt(annotator)


def prepare(
    batch: pa.Table,
    checkpoint_ref: str,
    task_json: str,
    one_sentence: bool = False,
    tokenizer_digest: str | None = None,
) -> pa.Table:
    """Split each citation of a batch into sentences and make its prompts.

    ``one_sentence``: each text is one sentence already, whatever the splitter would say.

    Raises:
        JobError: if the checkpoint's tokenizer is not the one of ``tokenizer_digest``.
    """
    prompter = load_prompter(checkpoint_ref, task_json, tokenizer_digest)
    sentences, prompts, errors = [], [], []
    for text, title_length in zip(
        batch["text"].to_pylist(), batch["title_length"].to_pylist(), strict=True
    ):
        spans, rows, error = [], [], None
        try:
            spans = _whole(text) if one_sentence else split_sentences(text, title_length)
            rows = [
                (*p.unit, p.entity_types, p.max_tokens, p.token_ids)
                for p in prompter.make_prompts(text, spans, title_length)
            ]
        except Exception as e:  # one citation's trouble is its own
            rows, error = [], f"prompt: {type(e).__name__}: {e}"
        sentences.append([tuple(s) for s in spans])
        prompts.append(rows)
        errors.append(error)
    added = [
        pa.array([[dict(zip(("start", "end"), s, strict=True)) for s in row] for row in sentences],
                 PREPARED_SCHEMA.field("sentences").type),
        _list_of_structs(prompts, PREPARED_SCHEMA.field("prompts").type),
        pa.array(errors, pa.string()),
    ]  # fmt: skip
    return pa.Table.from_arrays([*batch.columns, *added], schema=PREPARED_SCHEMA)


def _whole(text: str) -> list[Span]:
    span = trim(text, Span(0, len(text)))
    return [span] if span.start < span.end else []


def _list_of_structs(rows: Sequence[Sequence[tuple[object, ...]]], kind: pa.ListType) -> pa.Array:
    """Like ``pa.array`` over dicts, column by column: several times faster with lists inside."""
    offsets = [0]
    for row in rows:
        offsets.append(offsets[-1] + len(row))
    flat = [item for row in rows for item in row]
    fields = list(kind.value_type)
    columns = [pa.array([item[i] for item in flat], f.type) for i, f in enumerate(fields)]
    structs = pa.StructArray.from_arrays(columns, fields=fields)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), structs, type=kind)
