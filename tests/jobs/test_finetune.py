"""Finetune: examples to a checkpoint, on Ray Train."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from disks import fill_up, mounted, remount

from engine.checkpoints.load import load_checkpoint
from engine.steps.annotator import make_annotator
from engine.training.curve import Curve
from engine.training.resume import read_state, write_state
from jobs.finetune import FinetuneResult, run
from schemas.configs.finetune import FinetuneConfig
from schemas.configs.load import load_config
from schemas.errors import JobError, UsageError
from schemas.examples import EXAMPLES_SCHEMA

WORDS = ("the", "of", "in", "with", "was", "given", "patients", "had", "trial", "after", "severe")
DISEASES = ("gout", "flu", "asthma", "anaemia")
LEAK = "eight words that stand in a test sentence gout"


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


def settings(to: Path, examples: str, steps: int = 30, **changes: Any) -> dict[str, Any]:
    optimisation = {"steps": steps, "batch_tokens": 512, "micro_tokens": 512, "window": 64,
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


def command(values: dict[str, Any], file: Path) -> list[str]:
    file.write_text(yaml.safe_dump(values))
    return [sys.executable, "-c", "from jobs.cli import main; main()", "finetune", "--config",
            str(file), "--json"]  # fmt: skip


def losses(to: Path) -> dict[int, float]:
    return {r["step"]: r["loss"] for r in Curve.read(to.with_name(f"{to.name}.run") / "tuning")}


@pytest.mark.usefixtures("ray_session")
def test_from_nothing_to_a_checkpoint(tmp_path: Path, examples: str) -> None:
    texts = tmp_path / "abstracts.txt"
    lines = [f"A title\tPatients with gout were given {n} mg and {n + 1} mg." for n in range(60)]
    texts.write_text("\n".join([*lines, f"Another\tHere {LEAK} once more."]) + "\n")
    to = tmp_path / "tiny"
    language = {"texts": [str(texts)], "max_tokens": 48,
                "optimisation": {"steps": 10, "batch_tokens": 512, "window": 64,
                                 "precision": "float32"}}  # fmt: skip
    seen = []
    result = tune(
        settings(to, examples, language=language), seen=lambda s, m, n: seen.append((s, m["step"]))
    )
    assert result.learned_from == {"language": 60, "tuning": 380}
    assert result.removed == {"language": 1, "tuning": 1}
    assert seen == [("language", 10), *(("tuning", step) for step in (10, 20, 30))]
    curve = Curve.read(tmp_path / "tiny.run" / "tuning")
    assert curve[-1]["loss"] < 0.8 * curve[0]["loss"]
    assert {r["step"] for r in curve if "dev_f1" in r} == {20, 30}
    assert list((tmp_path / "tiny.run" / "tuning").glob("events.out.tfevents.*"))
    checkpoint = load_checkpoint(str(to))
    assert checkpoint.manifest.task == FinetuneConfig.model_validate(settings(to, examples)).task
    card = (to / "README.md").read_text()
    assert "380 examples; removed for sharing something with a test split: 1 by " in card
    assert f"{result.parameters:,}" in card
    # Said again, it is done: nothing is trained.
    seen.clear()
    again = tune(
        settings(to, examples, language=language), seen=lambda s, m, n: seen.append((s, m["step"]))
    )
    assert (again.loss, seen) == (result.loss, [])
    with pytest.raises(UsageError, match="holds a run begun with other settings"):
        tune(settings(to, examples))


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("merge", [False, True])
def test_an_adapter_over_a_base(tmp_path: Path, examples: str, merge: bool) -> None:
    to = tmp_path / "adapter"
    task = load_checkpoint("nano").manifest.task.only(["disease"]).model_dump(mode="json")
    values = settings(
        to, examples, 4, base="nano", lora={"rank": 2}, merge=merge, task=task, dev_examples=0
    )
    del values["shape"]
    result = tune(values)
    checkpoint = load_checkpoint(str(to))
    assert (checkpoint.adapter is None) == merge
    assert (checkpoint.manifest.base_digest is None) == merge
    make_annotator(checkpoint, checkpoint.manifest.task)  # refuses a base of other weights
    assert checkpoint.manifest.task.entity_types.keys() == {"disease"}
    assert result.steps == 4


@pytest.mark.usefixtures("ray_session")
def test_a_killed_run_goes_on_to_the_same_result(tmp_path: Path, examples: str) -> None:
    steps = 40
    tune(settings(tmp_path / "whole", examples, steps))
    to = tmp_path / "killed"
    told = command(settings(to, examples, steps), tmp_path / "killed.yaml")
    process = subprocess.Popen(
        told, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while max(losses(to), default=0) < 10 and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    again = subprocess.run(told, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["steps"] == steps
    whole, killed = losses(tmp_path / "whole"), losses(to)
    assert whole.keys() == killed.keys()
    assert all(abs(whole[s] - killed[s]) < 1e-3 for s in whole)


@pytest.mark.usefixtures("ray_session")
def test_a_disk_that_fills_up_keeps_the_last_state(tmp_path: Path, examples: str) -> None:
    tune(settings(tmp_path / "whole", examples, dev_examples=0))
    files = [f for f in (tmp_path / "whole.run").rglob("*") if f.is_file()]
    state = next(f for f in files if f.name == "state.pt").stat().st_size
    others = sum(f.stat().st_size for f in files if f.name != "state.pt")
    with mounted(tmp_path / "disk", f"size={others + int(1.6 * state)}") as disk:
        values = settings(disk / "tiny", examples, dev_examples=0)
        with pytest.raises(JobError, match="No space left on device"):
            tune(values)
        (kept,) = {f for f in disk.rglob("state.pt") if f.stat().st_size == state}
        assert read_state(kept.parent)["step"] == 5
        remount(disk, "size=64m")
        tune(values)
        whole, again = losses(tmp_path / "whole"), losses(disk / "tiny")
    assert whole.keys() == again.keys()
    assert all(abs(whole[s] - again[s]) < 1e-3 for s in whole)


@pytest.mark.usefixtures("ray_session")
def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(
    tmp_path: Path, examples: str
) -> None:
    with mounted(tmp_path / "disk", "size=64m") as disk:
        values = settings(disk / "tiny", examples, 5, dev_examples=0)
        tune(values)
        filler = fill_up(disk)
        before = (disk / "tiny/model.safetensors").read_bytes()
        with pytest.raises(JobError, match=r"the checkpoint cannot be written.*No space left"):
            tune(values)
        assert (disk / "tiny/model.safetensors").read_bytes() == before
        assert sorted(f.name for f in disk.iterdir()) == ["filler", "tiny", "tiny.run"]
        filler.unlink()
        assert tune(values).steps == 5


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
def test_a_run_that_learns_from_dev_is_not_scored_on_it(tmp_path: Path, examples: str) -> None:
    values = settings(tmp_path / "tiny", examples, 5)
    values["tuning"] |= {"splits": ["train", "dev"], "variation": {"replace": 0.5, "cut": 0.1}}
    result = tune(values)
    assert result.learned_from == {"tuning": 400} and result.dev_f1 is None
    assert "dev split" not in (tmp_path / "tiny/README.md").read_text()


@pytest.mark.usefixtures("ray_session")
def test_two_workers_that_share_the_weights_out(tmp_path: Path, examples: str) -> None:
    one = tune(settings(tmp_path / "one", examples, 20, dev_examples=4))
    two = tune(settings(tmp_path / "two", examples, 20, dev_examples=4, workers=2, sharded=True))
    assert two.loss == pytest.approx(one.loss, rel=1e-4) and two.dev_f1 == one.dev_f1
    load_checkpoint(str(tmp_path / "two"))


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
