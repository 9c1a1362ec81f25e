"""The fingerprint of an annotator: what can change an answer, and nothing else."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from engine.backends.base import EngineSettings
from engine.checkpoints.load import load_checkpoint
from engine.steps.annotator import Annotator, annotator_of, make_annotator
from schemas.configs.annotate import AnnotateConfig
from schemas.task import Task

Make = Callable[[str], Path]


def annotator(path: Path, task: Task | None = None) -> Annotator:
    load_checkpoint.cache_clear()
    checkpoint = load_checkpoint(str(path))
    return make_annotator(checkpoint, task or checkpoint.manifest.task)


def changed(task: Task, **changes: Any) -> Task:
    return Task.model_validate(task.model_dump() | changes)


def test_the_same_content_is_the_same_annotator_wherever_it_is(make_checkpoint: Make) -> None:
    first, second = annotator(make_checkpoint("here")), annotator(make_checkpoint("there"))
    assert first.fingerprint == second.fingerprint
    assert len(first.fingerprint) == 16


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("model.safetensors", "123", "124"),
        ("config.json", '"llama"', '"mistral"'),
        ("tokenizer.json", '"id": 1,', '"id": 1 ,'),
        ("generation_config.json", '"eos_token_id": 2', '"eos_token_id": 3'),
    ],
)
def test_a_change_in_a_file_changes_it(
    make_checkpoint: Make, file: str, old: str, new: str
) -> None:
    path = make_checkpoint("tuned")
    before = annotator(path).fingerprint
    text = (path / file).read_text(encoding="utf-8")
    assert old in text
    (path / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    assert annotator(path).fingerprint != before


def test_a_second_file_of_weights_changes_it(make_checkpoint: Make) -> None:
    path = make_checkpoint("tuned")
    before = annotator(path).fingerprint
    (path / "adapter_model.safetensors").write_bytes(b"1")
    assert annotator(path).fingerprint != before


def test_every_part_of_the_task_changes_it(make_checkpoint: Make) -> None:
    path = make_checkpoint("tuned")
    task = load_checkpoint(str(path)).manifest.task
    tasks = [
        task,
        task.only(["gene"]),
        changed(task, template="<s>{type} {text}<sep>"),
        changed(task, unit="passage"),
        changed(task, max_text_tokens=231),
        changed(task, decoding=task.decoding.model_dump() | {"temperature": 0.1}),
        changed(task, decoding=task.decoding.model_dump() | {"max_tokens_extra": 33}),
        changed(
            task, entity_types=task.model_dump()["entity_types"] | {"cell": {"definition": ""}}
        ),
    ]
    assert len({annotator(path, t).fingerprint for t in tasks}) == len(tasks)


@pytest.mark.parametrize("version", ["TEXT_LAYOUT_VERSION", "SPLITTER_VERSION", "ALIGNER_VERSION"])
def test_a_new_version_of_a_step_changes_it(
    make_checkpoint: Make, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    path = make_checkpoint("tuned")
    before = annotator(path).fingerprint
    monkeypatch.setattr(f"engine.steps.annotator.{version}", "another")
    assert annotator(path).fingerprint != before


def test_what_an_engine_is_told_that_changes_answers_is_part_of_it(make_checkpoint: Make) -> None:
    path = str(make_checkpoint("tuned"))
    plain, coarse = annotator_of(path), annotator_of(path, serving={"quantization": "fp8"})
    assert annotator_of(path, serving={}).fingerprint == plain.fingerprint != coarse.fingerprint
    assert coarse.parts["engine_args"] == coarse.serving == {"quantization": "fp8"}
    other = annotator_of(path, serving={"quantization": "fp8", "kv_cache_dtype": "fp8"})
    assert other.fingerprint != coarse.fingerprint


def test_what_cannot_change_an_answer_is_no_part_of_it(make_checkpoint: Make) -> None:
    path = make_checkpoint("tuned")
    before = annotator(path)
    (path / "README.md").write_text("How good it is.")
    assert annotator(path).fingerprint == before.fingerprint
    moved = replace(before.checkpoint, ref="another name")
    assert make_annotator(moved, before.task).fingerprint == before.fingerprint
    settings = {f.name for f in fields(EngineSettings)} | set(AnnotateConfig.model_fields)
    assert settings.isdisjoint(before.parts)
