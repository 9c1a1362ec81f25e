"""Finetune: examples to a checkpoint, on Ray Train."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from disks import fill_up, mounted, remount
from typer.testing import CliRunner

from engine.checkpoints.load import load_checkpoint
from engine.steps.annotator import make_annotator
from engine.training.curve import Curve
from engine.training.resume import read_state, write_state
from jobs.cli import app
from jobs.finetune import FinetuneResult, run
from schemas.configs.finetune import FinetuneConfig
from schemas.configs.load import load_config
from schemas.errors import JobError, UsageError
from schemas.examples import EXAMPLES_SCHEMA

WORDS = ("the", "of", "in", "with", "was", "given", "patients", "had", "trial", "after", "severe")
DISEASES = ("gout", "flu", "asthma", "anaemia")
LEAK = "eight words that stand in a test sentence gout"
STEPS = 40


def example(number: int, split: str, text: str) -> dict[str, Any]:
    mentions = [
        {"start": m.start(), "end": m.end(), "text": m[0], "entity_type": "disease"}
        for m in re.finditer("|".join(DISEASES), text)
    ]
    return {
        "corpus": "made", "split": split, "document": str(number), "part": 0, "pmid": None,
        "unit": "sentence", "form": "raw", "text": text, "title_length": None,
        "mentions": mentions, "annotated_types": ["disease"],
    }  # fmt: skip


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> str:
    random = Random(0)
    rows = []
    for number in range(400):
        words = random.choices([*WORDS, *DISEASES], k=random.randint(4, 9))
        split = "dev" if number % 20 == 0 else "train"
        rows.append(example(number, split, f"{' '.join(words)} {number}."))
    rows.append(example(1000, "test", LEAK))
    rows.append(example(1001, "train", f"We saw {LEAK} too."))
    path = tmp_path_factory.mktemp("examples") / "made.parquet"
    pq.write_table(pa.Table.from_pylist(rows, EXAMPLES_SCHEMA), path)
    return str(path)


def settings(to: Path, examples: str, **changes: Any) -> dict[str, Any]:
    optimisation = {"steps": STEPS, "batch_tokens": 256, "micro_tokens": 256, "window": 64,
                    "warmup_steps": 5, "precision": "float32", "peak_rate": 0.01}  # fmt: skip
    return {
        "to": str(to), "name": "tiny",
        "task": {
            "entity_types": {"disease": {"definition": "A disorder.", "prompt": "<disease>"}},
            "template": "<s>{type}{text}<sep>", "codec": "tags", "ask": "all",
        },
        "shape": {"vocabulary": 400, "width": 32, "feed_forward": 64, "layers": 2, "heads": 2,
                  "context_tokens": 256},
        "tuning": {"examples": [examples], "optimisation": optimisation},
        "dev_examples": 8, "evaluate_every": 20, "save_every": 5, "threads": 1,
    } | changes  # fmt: skip


def tune(values: dict[str, Any], **options: Any) -> FinetuneResult:
    return run(FinetuneConfig.model_validate(values), **options)


def losses(to: Path) -> dict[int, float]:
    return {r["step"]: r["loss"] for r in Curve.read(to.with_name(f"{to.name}.run") / "tuning")}


def assert_same_curve(one: Path, other: Path) -> None:
    ours, theirs = losses(one), losses(other)
    assert ours.keys() == theirs.keys() and max(ours) == STEPS
    assert all(abs(ours[s] - theirs[s]) < 1e-3 for s in ours)


# A run from nothing: once for all tests, which begin with what its first stage left


@dataclass
class Whole:
    """A run of two stages, undisturbed. ``seen`` are the stages and steps that were told."""

    to: Path
    values: dict[str, Any]
    result: FinetuneResult
    seen: list[tuple[str, int]]

    @property
    def folder(self) -> Path:
        return self.to.with_name(f"{self.to.name}.run")

    def first_stage(self, to: Path) -> dict[str, Any]:
        """The settings of the same run to another place, where its first stage is done."""
        shutil.copytree(
            self.folder, to.with_name(f"{to.name}.run"),
            ignore=shutil.ignore_patterns("tuning", "states"),
        )  # fmt: skip
        return self.values | {"to": str(to)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, examples: str, ray_session: None) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    texts = folder / "abstracts.txt"
    lines = [f"A title\tPatients with gout were given {n} mg and {n + 1} mg." for n in range(60)]
    texts.write_text("\n".join([*lines, f"Another\tHere {LEAK} once more."]) + "\n")
    language = {"texts": [str(texts)], "max_tokens": 48,
                "optimisation": {"steps": 10, "batch_tokens": 256, "window": 64,
                                 "precision": "float32"}}  # fmt: skip
    values = settings(folder / "tiny", examples, language=language)
    seen: list[tuple[str, int]] = []
    result = tune(values, seen=lambda s, m, n: seen.append((s, m["step"])))
    return Whole(folder / "tiny", values, result, seen)


@pytest.mark.slow
def test_from_nothing_to_a_checkpoint(whole: Whole) -> None:
    assert whole.result.learned_from == {"language": 60, "tuning": 380}
    assert whole.result.removed == {"language": 1, "tuning": 1}
    assert whole.seen == [("language", 10), *(("tuning", step) for step in (10, 20, 30, 40))]
    curve = Curve.read(whole.folder / "tuning")
    assert curve[-1]["loss"] < 0.8 * curve[0]["loss"]
    assert {r["step"] for r in curve if "dev_f1" in r} == {20, 40}
    assert list((whole.folder / "tuning").glob("events.out.tfevents.*"))
    checkpoint = load_checkpoint(str(whole.to))
    assert checkpoint.manifest.task == FinetuneConfig.model_validate(whole.values).task
    card = (whole.to / "README.md").read_text()
    assert "380 examples; removed for sharing something with a test split: 1 by " in card
    assert f"{whole.result.parameters:,}" in card


@pytest.mark.slow
def test_said_again_it_is_done_and_nothing_is_trained(whole: Whole) -> None:
    seen: list[int] = []
    again = tune(whole.values, seen=lambda s, m, n: seen.append(m["step"]))
    assert (again.loss, seen) == (whole.result.loss, [])
    with pytest.raises(UsageError, match="holds a run begun with other settings"):
        tune({k: v for k, v in whole.values.items() if k != "language"})


@pytest.mark.chaos
def test_a_killed_run_goes_on_to_the_same_result(tmp_path: Path, whole: Whole) -> None:
    to, file = tmp_path / "killed", tmp_path / "killed.yaml"
    file.write_text(yaml.safe_dump(whole.first_stage(to)))
    told = ["finetune", "--config", str(file), "--json"]
    process = subprocess.Popen(
        [sys.executable, "-c", "from jobs.cli import main; main()", *told],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        # With Ray Train's own interval a state is kept after what was told before it was written.
        env=os.environ | {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "2"},
    )  # fmt: skip
    while max(losses(to), default=0) < 10 and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and max(losses(to)) < STEPS
    again = CliRunner().invoke(app, told)
    assert again.exit_code == 0, again.stderr
    assert json.loads(again.stdout)["steps"] == 10 + STEPS
    assert_same_curve(whole.to, to)


@pytest.mark.slow
def test_a_disk_that_fills_up_keeps_the_last_state(tmp_path: Path, whole: Whole) -> None:
    files = [f for f in whole.folder.rglob("*") if f.is_file()]
    state = max(f.stat().st_size for f in files if f.name == "state.pt")
    pages = sum(-(-f.stat().st_size // 4096) for f in files if f.name != "state.pt")
    with mounted(tmp_path / "disk", f"size={4096 * pages + int(1.6 * state)}") as disk:
        values = whole.first_stage(disk / "tiny")
        with pytest.raises(JobError, match="No space left on device"):
            tune(values)
        (kept,) = {f for f in disk.rglob("state.pt") if f.stat().st_size == state}
        assert read_state(kept.parent)["step"] == 5
        remount(disk, "size=64m")
        tune(values)
        assert_same_curve(whole.to, disk / "tiny")


@pytest.mark.slow
def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(tmp_path: Path, whole: Whole) -> None:
    with mounted(tmp_path / "disk", "size=64m") as disk:
        values = whole.values | {"to": str(disk / "tiny")}
        shutil.copytree(whole.to, disk / "tiny")
        shutil.copytree(whole.folder, disk / "tiny.run")  # trained: only the checkpoint is written
        filler = fill_up(disk)
        before = (disk / "tiny/model.safetensors").read_bytes()
        with pytest.raises(JobError, match=r"the checkpoint cannot be written.*No space left"):
            tune(values)
        assert (disk / "tiny/model.safetensors").read_bytes() == before
        assert sorted(f.name for f in disk.iterdir()) == ["filler", "tiny", "tiny.run"]
        filler.unlink()
        assert tune(values).steps == whole.result.steps


@pytest.mark.slow
def test_two_workers_that_share_the_weights_out(tmp_path: Path, whole: Whole) -> None:
    two = tune(whole.first_stage(tmp_path / "two") | {"workers": 2, "sharded": True})
    assert two.loss == pytest.approx(whole.result.loss, rel=1e-4)
    assert two.dev_f1 == whole.result.dev_f1
    load_checkpoint(str(tmp_path / "two"))


# An adapter over nano, once


@pytest.fixture(scope="module")
def adapter(
    tmp_path_factory: pytest.TempPathFactory, examples: str, ray_session: None
) -> tuple[Path, dict[str, Any], FinetuneResult]:
    """Learned from the dev split too, with other names and words cut; its settings and result."""
    to = tmp_path_factory.mktemp("adapter") / "adapter"
    task = load_checkpoint("nano").manifest.task.only(["disease"]).model_dump(mode="json")
    values = settings(to, examples, base="nano", shape=None, lora={"rank": 2}, task=task)
    values["tuning"] |= {"splits": ["train", "dev"], "variation": {"replace": 0.5, "cut": 0.1}}
    values["tuning"]["optimisation"]["steps"] = 4
    return to, values, tune(values)


@pytest.mark.slow
@pytest.mark.parametrize("merge", [False, True])
def test_an_adapter_over_a_base(adapter: Any, tmp_path: Path, merge: bool) -> None:
    to, values, result = adapter
    if merge:  # the same run, had it been begun so
        folder = tmp_path / "merged.run"
        shutil.copytree(to.with_name("adapter.run"), folder)
        note = (folder / "config.json").read_text()
        assert note.count('"merge": false') == 1
        (folder / "config.json").write_text(note.replace('"merge": false', '"merge": true'))
        to = tmp_path / "merged"
        result = tune(values | {"to": str(to), "merge": True})
    checkpoint = load_checkpoint(str(to))
    assert (checkpoint.adapter is None) == merge
    assert (checkpoint.manifest.base_digest is None) == merge
    make_annotator(checkpoint, checkpoint.manifest.task)  # refuses a base of other weights
    assert checkpoint.manifest.task.entity_types.keys() == {"disease"}
    assert result.steps == 4


@pytest.mark.slow
def test_a_run_that_learns_from_dev_is_not_scored_on_it(adapter: Any) -> None:
    to, _, result = adapter
    assert result.learned_from == {"tuning": 400} and result.dev_f1 is None
    assert "dev split" not in (to / "README.md").read_text()


# What is missing, or contradicts itself


def test_a_state_that_does_not_fit_the_disk_is_told(tmp_path: Path) -> None:
    (tmp_path / "state.pt").symlink_to("/dev/full")  # the kernel's own full disk
    with pytest.raises(JobError, match=r"step 7 cannot be written to .*; the one before"):
        write_state({"step": 7, "weights": {"w": torch.zeros(100_000)}}, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": "no/such-model-here", "shape": None}, "no/such-model-here"),
        ({"tuning": {"examples": ["nowhere/*.parquet"], "optimisation": {"steps": 1}}}, "nowhere"),
    ],
)
def test_what_is_missing_is_named_before_anything_starts(
    tmp_path: Path, examples: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        tune(settings(tmp_path / "x", examples) | changes)


@pytest.mark.usefixtures("ray_session")
def test_an_empty_corpus_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "empty.parquet"
    pq.write_table(EXAMPLES_SCHEMA.empty_table(), path)
    with pytest.raises(UsageError, match="no example of split train"):
        tune(settings(tmp_path / "x", str(path)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": "a/b"}, "give either base or shape"),
        ({"shape": None}, "give either base or shape"),
        ({"lora": {}}, "lora needs a base"),
        ({"merge": True}, "merge needs lora"),
        (
            {
                "base": "a/b",
                "shape": None,
                "lora": {},
                "language": {"texts": ["x.txt"], "optimisation": {"steps": 1}},
            },
            "language tunes all weights",
        ),
    ],
)
def test_settings_that_contradict_each_other(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(settings(tmp_path / "x", "e.parquet") | changes))
    with pytest.raises(UsageError, match=message):
        load_config(FinetuneConfig, str(file), {})
