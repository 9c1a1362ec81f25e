"""Tokens a second of tuning: our loop against padded batches and against TRL's ``SFTTrainer``.

    taskset -c 1 .venv/bin/python bench/finetune.py EXAMPLES... [--shape small] [--ways WAY...]

EXAMPLES are Parquet, as ``pubmark corpus import`` makes. Every way tunes the same model (a Llama of
random weights) on the same sequences, prompts left out of the loss, with as many sequences a step
and AdamW over float32 weights. Padding does not count as tokens. A way is a name and settings:

    ours    [+packed] [+compile] [+float32] [+micro=N]
    padded  [+eager] [+float32]             a plain loop: rows as they come, padded to the longest
    trl     [+nockpt] [+eager] [+grouped|+balanced|+packed|+free] [+compile] [+pure|+float32]
            [+rows=N]

``trl`` alone is SFTTrainer as it comes: padded, in random order, sdpa attention, gradients
checkpointed, bf16 by autocast. ``pure`` gives it a model in bfloat16 instead: then its weights'
updates are rounded to bfloat16 too, which ours are not. Ways alternate in one process; the first
steps of each turn are not counted. Printed are medians over the turns, by the clock and by CPU time
(of one core: what counts where others work on the machine), and JSON on the last line.
"""

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
ROOT = Path(__file__).parents[1]
SHAPES = {"small": (320, 896, 8, 5), "100m": (768, 2048, 13, 12)}
"""Width, feed-forward, layers, heads: the shape that a config gets by default, and a large one."""
_BEST = "trl+nockpt+eager"
WAYS = (
    "ours", "ours+packed+micro=512", "padded", "padded+eager", "trl", "trl+nockpt",
    f"{_BEST}+balanced+rows=8", f"{_BEST}+grouped+rows=8", f"{_BEST}+balanced+pure+rows=8",
    f"{_BEST}+packed",
)  # fmt: skip
PAD = 3


@dataclass
class Marks:
    """Clock, CPU clock and tokens so far, at the end of the uncounted steps and of all."""

    first: int
    last: int
    at: dict[int, tuple[float, float, int]]

    def note(self, step: int, tokens: int) -> None:
        if step in (self.first, self.last):
            self.at[step] = (time.perf_counter(), time.process_time(), tokens)

    def speeds(self) -> tuple[float, float]:
        """Tokens a second by the clock, and by CPU time."""
        (t0, c0, n0), (t1, c1, n1) = self.at[self.first], self.at[self.last]
        return (n1 - n0) / (t1 - t0), (n1 - n0) / (c1 - c0)


def read_sequences(files: list[str], count: int) -> list[Any]:
    """That many training sequences of nano's task, in random order."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from engine.checkpoints.load import load_checkpoint
    from engine.training.data.encode import EncodeExamples
    from engine.training.data.sequences import TokenSequence
    from schemas.configs.finetune import Optimisation, TuningStage

    nano = load_checkpoint("nano")
    table = pa.concat_tables([pq.read_table(f) for f in files])
    table = table.filter(pc.equal(table["split"], "train"))
    order = list(range(len(table)))
    Random(0).shuffle(order)
    tuning = TuningStage(examples=files, optimisation=Optimisation(steps=1))
    encode = EncodeExamples(nano.manifest.task, str(nano.path), 2, tuning, 0)
    columns = encode(table.take(order[: count + 64]), 0).slice(0, count).to_pydict()
    found = [TokenSequence(i, w) for i, w in zip(columns["ids"], columns["weights"], strict=True)]
    if len(found) < count:
        sys.exit(f"{len(found)} sequences; wanted {count}")
    Random(1).shuffle(found)
    return found


def make_model(shape: str, attention: str, dtype: Any = None) -> Any:
    import torch
    from transformers import AutoConfig, LlamaForCausalLM

    width, feed_forward, layers, heads = SHAPES[shape]
    config = AutoConfig.from_pretrained(
        ROOT / "checkpoints/nano",
        hidden_size=width, intermediate_size=feed_forward, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads, head_dim=width // heads,
    )  # fmt: skip
    config._attn_implementation = attention
    torch.manual_seed(0)
    return LlamaForCausalLM(config).to(dtype or torch.float32)


def number(flags: set[str], name: str, otherwise: int) -> int:
    return next((int(f[len(name) + 1 :]) for f in flags if f.startswith(f"{name}=")), otherwise)


def run_ours(options: argparse.Namespace, flags: set[str], data: list[Any], marks: Marks) -> None:
    from engine.training.loop import StepFigures, train
    from schemas.configs.finetune import Optimisation

    settings = Optimisation(
        steps=marks.last, warmup_steps=1,
        micro_tokens=number(flags, "micro", 0) or None,
        layout="packed" if "packed" in flags else "bucketed", compile="compile" in flags,
        precision="float32" if "float32" in flags else "bfloat16", peak_rate=1e-4,
    )  # fmt: skip
    size = options.sequences
    steps = [data[i : i + size] for i in range(0, len(data), size)]

    def on_step(figures: StepFigures, _: Any) -> None:
        marks.note(figures.step, figures.tokens)

    train(make_model(options.shape, "eager"), steps, settings, PAD, on_step=on_step)


def run_padded(options: argparse.Namespace, flags: set[str], data: list[Any], marks: Marks) -> None:
    """The plain loop to compare with: the model's own loss, padded rows, autocast."""
    import torch

    model = make_model(options.shape, "eager" if "eager" in flags else "sdpa")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    model.train()
    tokens = 0
    for step in range(1, marks.last + 1):
        batch = data[(step - 1) * options.sequences : step * options.sequences]
        total = sum(sum(s.weights) for s in batch)
        for i in range(0, len(batch), options.rows):
            rows = batch[i : i + options.rows]
            width = max(len(s.ids) for s in rows)
            ids = torch.tensor([s.ids + [PAD] * (width - len(s.ids)) for s in rows])
            mask = torch.tensor([[1] * len(s.ids) + [0] * (width - len(s.ids)) for s in rows])
            scored = torch.tensor([s.weights + [0.0] * (width - len(s.ids)) for s in rows])
            labels = ids.masked_fill(scored == 0, -100)
            with (
                nullcontext() if "float32" in flags else torch.autocast("cpu", dtype=torch.bfloat16)
            ):
                loss = model(
                    input_ids=ids, attention_mask=mask, labels=labels, use_cache=False,
                    num_items_in_batch=total,
                ).loss  # fmt: skip
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        tokens += sum(len(s.ids) for s in batch)
        marks.note(step, tokens)


def run_trl(options: argparse.Namespace, flags: set[str], data: list[Any], marks: Marks) -> None:
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    rows = number(flags, "rows", options.rows)
    length = 512
    settings: dict[str, Any] = {"max_length": 1024}
    accumulate = options.sequences // rows
    if "packed" in flags:
        mean = sum(len(s.ids) for s in data) / len(data)
        rows, accumulate = 1, max(1, round(options.sequences * mean / length))
        settings = {"packing": True, "max_length": length}
    elif "free" in flags:
        settings = {"padding_free": True, "max_length": None}
    if "nockpt" in flags:
        settings["gradient_checkpointing"] = False
    if "grouped" in flags:
        settings["train_sampling_strategy"] = "group_by_length"
    if "balanced" in flags:
        settings["train_sampling_strategy"] = "batch_rebalance"
    if "compile" in flags:
        settings["torch_compile"] = True
    dataset = Dataset.from_dict(
        {
            "input_ids": [s.ids for s in data],
            "completion_mask": [[int(w > 0) for w in s.weights] for s in data],
        }
    )
    model = make_model(
        options.shape,
        "eager" if "eager" in flags else "sdpa",
        torch.bfloat16 if "pure" in flags else None,
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(
                output_dir=folder, use_cpu=True, bf16=not flags & {"float32", "pure"},
                per_device_train_batch_size=rows, gradient_accumulation_steps=accumulate,
                max_steps=marks.last, completion_only_loss=True, learning_rate=1e-4,
                report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
                dataloader_pin_memory=False, log_level="error", **settings,
            ),
            train_dataset=dataset,
            processing_class=AutoTokenizer.from_pretrained(ROOT / "checkpoints/nano"),
        )  # fmt: skip

        class Watch(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                marks.note(state.global_step, trainer._total_train_tokens)

        trainer.add_callback(Watch())
        trainer.train()


RUN: dict[str, Callable[[argparse.Namespace, set[str], list[Any], Marks], None]] = {
    "ours": run_ours, "padded": run_padded, "trl": run_trl,
}  # fmt: skip


def turns(options: argparse.Namespace, data: list[Any]) -> Iterator[tuple[str, Marks]]:
    """Each way in turn, again and again."""
    for number in range(options.rounds):
        for way in options.ways:
            name, *flags = way.split("+")
            marks = Marks(options.warm, options.warm + options.steps, {})
            RUN[name](options, set(flags), data, marks)
            gc.collect()
            clock, cpu = marks.speeds()
            print(f"round {number + 1}  {way:<38} {clock:8,.0f} tokens/s by the clock, {cpu:8,.0f}"
                  f" by CPU time", file=sys.stderr, flush=True)  # fmt: skip
            yield way, marks


def main() -> None:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("examples", nargs="+")
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--ways", nargs="+", default=list(WAYS))
    parser.add_argument("--sequences", type=int, default=48, help="of one step")
    parser.add_argument("--rows", type=int, default=16, help="of a forward pass, where padded")
    parser.add_argument("--warm", type=int, default=1, help="steps not counted")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()

    import datasets
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    torch.set_num_threads(options.threads)
    data = read_sequences(options.examples, options.sequences * (options.warm + options.steps))
    speeds: dict[str, list[tuple[float, float]]] = {way: [] for way in options.ways}
    for way, marks in turns(options, data):
        speeds[way].append(marks.speeds())
    clock = {w: statistics.median(c for c, _ in s) for w, s in speeds.items()}
    cpu = {w: statistics.median(c for _, c in s) for w, s in speeds.items()}
    print(f"{'':<40}{'tokens/s':>10}{'tokens/CPU s':>14}")
    for way in options.ways:
        print(f"{way:<40}{clock[way]:>10,.0f}{cpu[way]:>14,.0f}")
    ratios = {}
    for ours in (w for w in options.ways if w.startswith("ours")):
        for other in (w for w in options.ways if not w.startswith("ours")):
            if ("float32" in ours) == ("float32" in other):
                ratios[f"{ours} / {other}"] = {
                    "clock": round(clock[ours] / clock[other], 3),
                    "cpu": round(cpu[ours] / cpu[other], 3),
                }
    for name, ratio in ratios.items():
        print(f"{name}: {ratio['clock']} by the clock, {ratio['cpu']} by CPU time")
    print(json.dumps({
        "shape": options.shape, "sequences": len(data), "threads": options.threads,
        "tokens": sum(len(s.ids) for s in data),
        "tokens_per_s": {w: round(v) for w, v in clock.items()},
        "tokens_per_cpu_s": {w: round(v) for w, v in cpu.items()}, "ratios": ratios,
    }))  # fmt: skip


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
