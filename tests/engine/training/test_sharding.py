"""Sharded weights: two workers (gloo) that share them out, against one that has them all."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from engine.training.data.batches import lay_out, share
from engine.training.data.sequences import TokenSequence
from engine.training.loop import Place, State, StepFigures, train
from engine.training.model import add_adapter
from engine.training.resume import read_state, write_state
from schemas.configs.finetune import FinetuneConfig, Lora, Optimisation

from .test_loop import PAD, make_sequences, make_some_steps, new_model, optimisation, tune

# One sequence is all of the last step: one of the workers then has nothing of its own.
STEPS = [*make_some_steps(optimisation(steps=5))[:5], make_sequences(1, seed=9)]
SETTINGS = {"steps": 6, "layout": "bucketed", "micro_tokens": 64}


def make_model(adapter: bool) -> Any:
    model = new_model()
    return add_adapter(model, Lora(rank=4), seed=0) if adapter else model


def take_part(
    rank: int, folder: Path, settings: Optimisation, adapter: bool, resumed: bool
) -> None:
    """One worker of two, in a process of its own; the first writes down what it saw."""
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(str(folder / "store"), 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    model = make_model(adapter)
    state = read_state(folder / "before") if resumed else None
    seen: list[StepFigures] = []

    def on_step(figures: StepFigures, make_state: Callable[[], State]) -> None:
        seen.append(figures)
        made = make_state()
        if rank == 0:
            (folder / str(figures.step)).mkdir()
            write_state(made, folder / str(figures.step))

    place = Place(rank, 2, "cpu", sharded=True)
    train(model, STEPS, settings, PAD, place, state, on_step)
    held = sum(w.to_local().numel() for w in model.parameters())
    torch.save({"losses": [f.loss for f in seen], "gradients": [f.gradient for f in seen],
                "held": held}, folder / f"{rank}.pt")  # fmt: skip
    torch.distributed.destroy_process_group()


def run_two(
    folder: Path, settings: Optimisation, adapter: bool = False, resumed: bool = False
) -> Any:
    job = partial(take_part, folder=folder, settings=settings, adapter=adapter, resumed=resumed)
    torch.multiprocessing.spawn(job, nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("adapter", [False, True])
def test_two_workers_that_share_the_weights_out_follow_one(tmp_path: Path, adapter: bool) -> None:
    settings = optimisation(**SETTINGS)
    passes = [
        [len(list(lay_out(share(s, r, 2), 64, "bucketed", PAD))) for r in (0, 1)] for s in STEPS
    ]
    assert any(one != other for one, other in passes)  # what as_many is for
    states: dict[int, State] = {}
    model = make_model(adapter)
    size = sum(w.numel() for w in model.parameters())
    one = tune(model, STEPS, settings, states=states)
    both = run_two(tmp_path, settings, adapter)
    for seen in both:
        assert seen["losses"] == pytest.approx([f.loss for f in one], rel=1e-5)
        assert seen["gradients"] == pytest.approx([f.gradient for f in one], rel=1e-4)
        assert seen["held"] < 0.6 * size
    ours, theirs = states[6], read_state(tmp_path / "6")
    assert theirs["weights"].keys() == ours["weights"].keys()
    for name, weight in ours["weights"].items():
        assert torch.allclose(theirs["weights"][name], weight, atol=1e-5), name


def test_a_state_is_the_same_whoever_made_it(tmp_path: Path) -> None:
    """A run may go on with its weights shared out, or no longer so."""
    settings = optimisation(**SETTINGS)
    states: dict[int, State] = {}
    one = [f.loss for f in tune(new_model(), STEPS, settings, states=states)]
    (tmp_path / "before").mkdir()
    write_state(states[3], tmp_path / "before")
    for seen in run_two(tmp_path, settings, resumed=True):
        assert seen["losses"] == pytest.approx(one[3:], rel=1e-5)
    state = read_state(tmp_path / "5")
    rest = tune(new_model(seed=1), STEPS, settings, state=state)
    assert [f.loss for f in rest] == pytest.approx(one[5:], rel=1e-5)


def test_in_bfloat16_small_updates_add_up_in_parts(tmp_path: Path) -> None:
    settings = optimisation(**SETTINGS, precision="bfloat16")
    one = [f.loss for f in tune(new_model(), STEPS, settings)]
    for seen in run_two(tmp_path, settings):
        assert seen["losses"] == pytest.approx(one, rel=1e-2)
    weight = read_state(tmp_path / "6")["weights"]["model.layers.0.mlp.up_proj.weight"]
    assert weight.dtype == torch.float32
    assert not torch.equal(weight, weight.bfloat16().float())


def test_muon_wants_whole_matrices() -> None:
    tuning = {"examples": ["e"], "optimisation": {"steps": 1, "optimizer": "muon"}}
    task = {
        "entity_types": {"disease": {"definition": "A disorder."}},
        "template": "{type}{text}",
        "codec": "mark",
    }
    with pytest.raises(ValidationError, match="sharded needs adamw"):
        FinetuneConfig.model_validate(
            {"to": "x", "name": "x", "task": task, "base": "b", "tuning": tuning, "sharded": True}
        )


def test_a_sequence_without_weight_keeps_a_worker_company() -> None:
    alone = [TokenSequence([5, 6, 7], [0.0, 1.0, 1.0])]
    mute = share(alone, 1, 2)
    assert [s.ids for s in mute] == [[5, 6, 7]]
    assert not any(mute[0].weights)
