"""Citations to prompts: the CPU step before the engines.

Reads CITATION_SCHEMA; adds ``sentences``, ``prompts`` and ``error`` (PREPARED_SCHEMA).
"""

from collections.abc import Sequence
from functools import lru_cache

import pyarrow as pa

from engine.checkpoints.load import load_checkpoint
from engine.checkpoints.tokenizer import load_tokenizer
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
def load_prompter(checkpoint_ref: str, task_json: str) -> Prompter:
    """The prompter of a checkpoint and a task (as JSON), made once in a process."""
    checkpoint = load_checkpoint(checkpoint_ref)
    task = Task.model_validate_json(task_json)
    return Prompter(task, load_tokenizer(checkpoint.tokenizer_path), checkpoint.context_tokens)


def check_template(annotator: Annotator) -> None:
    """Make an annotator's prompter, to see that its template fits its checkpoint.

    Raises:
        ValueError: if it does not.
    """
    load_prompter(annotator.checkpoint.ref, annotator.task.model_dump_json())


def prepare(
    batch: pa.Table, checkpoint_ref: str, task_json: str, one_sentence: bool = False
) -> pa.Table:
    """Split each citation of a batch into sentences and make its prompts.

    ``one_sentence``: each text is one sentence already, whatever the splitter would say.
    """
    prompter = load_prompter(checkpoint_ref, task_json)
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
