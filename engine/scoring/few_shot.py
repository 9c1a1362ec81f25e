"""An untuned instruction model, prompted with examples: the paper's comparison.

Enters: any Hugging Face directory of a causal language model, a task, training examples. Leaves: a
checkpoint that the pipeline runs like any other, since instruction and examples are only a
template. Left to others: running and scoring it.
"""

import json
import random
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.checkpoints.adapter import ADAPTER_CONFIG
from engine.checkpoints.fetch import fetch_files
from engine.checkpoints.load import Checkpoint, load_checkpoint
from engine.codecs import mark
from engine.scoring.gold import GoldText
from engine.steps.sentences import split_sentences
from schemas.credentials import without_credentials
from schemas.errors import UsageError
from schemas.spans import Span
from schemas.task import CheckpointManifest, EntityType, Task

_INSTRUCTION = (
    "Mark every mention of the entity type {name} in the input. {definition} Repeat the input "
    "exactly as it is, with <mark> before and </mark> after each mention; if there is none, "
    "repeat it unchanged. Answer with nothing else."
)
_INPUT, _OUTPUT = "Input:\n", "\nOutput:"
_LENGTHS = range(20, 400)
"""Lengths of a sentence, in code points, that may be an example: no heading, and no half page."""

Shot = tuple[str, list[Span]]
"""A sentence, and the spans of its mentions of one type."""


def draw_all_shots(
    task: Task, examples: Sequence[GoldText], gold: Sequence[GoldText], count: int, seed: int
) -> dict[str, list[Shot]]:
    """By entity type of the task, ``count`` training sentences, none of which ``gold`` holds.

    Raises:
        UsageError: if a type has fewer sentences than ``count``.
    """
    held_out = {t.text[s.start : s.end] for t in gold for s in sentences(t)}
    return {name: draw_shots(examples, name, count, seed, held_out) for name in task.entity_types}


def draw_shots(
    examples: Sequence[GoldText],
    entity_type: str,
    count: int,
    seed: int,
    held_out: Collection[str] = (),
) -> list[Shot]:
    """``count`` sentences of texts that have the type annotated, half of them with mentions.

    None is in ``held_out``, the sentences that will be scored. The same seed draws the same ones.

    Raises:
        UsageError: if fewer than ``count`` sentences fit.
    """
    rng = random.Random(f"{seed} {entity_type}")
    order = [e for e in examples if entity_type in e.annotated_types]
    rng.shuffle(order)
    excluded = set(held_out)
    wanted = {True: (count + 1) // 2, False: count // 2}
    drawn: dict[bool, list[Shot]] = {True: [], False: []}
    for example in order:
        if all(len(drawn[k]) >= count for k in drawn):
            break
        shots = [s for s in _shots(example, entity_type) if s[0] not in excluded]
        if shots:
            shot = rng.choice(shots)
            drawn[bool(shot[1])].append(shot)
            excluded.add(shot[0])
    # Where sentences with mentions, or those without, are too few, the others make up for them.
    short = sum(max(0, n - len(drawn[k])) for k, n in wanted.items())
    chosen = [s for k, n in wanted.items() for s in drawn[k][: n + short]][:count]
    if len(chosen) < count:
        raise UsageError(
            f"{len(chosen)} training sentences fit as examples of {entity_type}, expected {count}"
        )
    rng.shuffle(chosen)
    return chosen


def sentences(text: GoldText) -> list[Span]:
    """The sentences of a gold text."""
    if text.is_sentence:
        return [Span(0, len(text.text))]
    return split_sentences(text.text, text.title_length)


def few_shot_task(task: Task, shots: dict[str, list[Shot]], frame: str) -> Task:
    """The same entity types, prompted for by instruction and examples, answered in the mark codec.

    ``frame`` is the text around the question, such as a chat template's, with ``{question}`` where
    the question goes.
    """
    types = {}
    for name, entity_type in task.entity_types.items():
        parts = [_INSTRUCTION.format(name=name, definition=entity_type.definition)]
        parts += [f"{_INPUT}{text}{_OUTPUT}\n{mark.encode(text, m)}" for text, m in shots[name]]
        types[name] = EntityType(
            definition=entity_type.definition, prompt="".join(f"{part}\n\n" for part in parts)
        )
    decoding = task.decoding
    if task.codec != "mark":  # a limit for the markers of another codec
        decoding = decoding.model_copy(update={"max_tokens_per_text_token": None})
    return Task(
        entity_types=types,
        template=frame.replace("{question}", f"{{type}}{_INPUT}{{text}}{_OUTPUT}"),
        unit=task.unit,
        max_text_tokens=task.max_text_tokens,
        decoding=decoding,
    )


@contextmanager
def few_shot_checkpoint(ref: str, task: Task, shots: dict[str, list[Shot]]) -> Iterator[Checkpoint]:
    """An untuned model as a checkpoint for a task; it is deleted when the block ends.

    The checkpoint is a temporary directory of links to the model's files and a ``pubmark.json`` of
    its own, so it is on this machine only. A completion ends at the end of a line too. The model's
    chat template is used if it has one.

    Raises:
        UsageError: if there is no such model, or it cannot be served.
    """
    ref, path = fetch_files(ref)
    if (path / ADAPTER_CONFIG).exists():
        raise UsageError(f"checkpoint {ref}: is an adapter; expected a model that was not tuned")
    with tempfile.TemporaryDirectory(prefix="pubmark-few-shot-") as folder:
        made = Path(folder)
        for file in path.iterdir():
            if file.name not in ("pubmark.json", "generation_config.json"):
                (made / file.name).symlink_to(file.resolve())
        frame, newlines = _read_tokenizer(path, ref)
        count = max(map(len, shots.values()), default=0)
        manifest = CheckpointManifest(
            name=f"{Path(without_credentials(ref)).name}, {count}-shot",
            description=f"{without_credentials(ref)}, not tuned, prompted with {count} examples.",
            task=few_shot_task(task, shots, frame),
        )
        (made / "pubmark.json").write_text(manifest.model_dump_json(), encoding="utf-8")
        stop = {"eos_token_id": sorted({*_stop_tokens(path), *newlines})}
        (made / "generation_config.json").write_text(json.dumps(stop), encoding="utf-8")
        yield load_checkpoint(str(made))


def _shots(example: GoldText, entity_type: str) -> Iterator[Shot]:
    for sentence in sentences(example):
        text = example.text[sentence.start : sentence.end]
        spans = [
            m.span.shift(-sentence.start)
            for m in example.mentions
            if m.entity_type == entity_type and sentence.start <= m.start < m.end <= sentence.end
        ]
        try:
            mark.encode(text, spans)
        except ValueError:  # nested mentions, which the codec cannot write
            continue
        if len(text) in _LENGTHS and "\n" not in text:
            yield text, spans


def _read_tokenizer(path: Path, ref: str) -> tuple[str, list[int]]:
    """The text around a question, with ``{question}`` in it, and all tokens with a line's end."""
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False)
        if tokenizer.chat_template:
            frame = tokenizer.apply_chat_template(
                [{"role": "user", "content": "{question}"}],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,
            )
        else:
            ids = tokenizer("x")["input_ids"]
            begins = bool(ids) and ids[0] == tokenizer.bos_token_id
            frame = (tokenizer.bos_token if begins else "") + "{question}\n"
        newlines = [i for i in range(len(tokenizer)) if "\n" in tokenizer.decode([i])]
    except (OSError, ValueError, KeyError) as e:
        raise UsageError(f"checkpoint {ref}: its tokenizer cannot be used: {e}") from e
    return frame, newlines


def _stop_tokens(path: Path) -> list[int]:
    """The end tokens of the model's own generation_config.json, which the checkpoint replaces.

    Those of config.json need not be copied: ``load_checkpoint`` reads them from there.
    """
    try:
        value = json.loads((path / "generation_config.json").read_bytes()).get("eos_token_id")
    except (OSError, ValueError, AttributeError):
        return []
    return [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, int)]
