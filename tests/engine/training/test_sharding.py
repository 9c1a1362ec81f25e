"""Sharded weights: two workers (gloo) that share them out, against one that has them all."""

from collections.abc import Callable
from dataclasses import dataclass
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


SCENARIOS: dict[str, dict[str, Any]] = {
    "all weights": {},
    "an adapter": {"adapter": True},
    "resumed": {"before": 3},
    "bfloat16": {"precision": "bfloat16"},
}


def settings_of(precision: str = "float32", **_: Any) -> Optimisation:
    return optimisation(**SETTINGS, precision=precision)


def make_model(adapter: bool = False, **_: Any) -> Any:
    model = new_model()
    return add_adapter(model, Lora(rank=4), seed=0) if adapter else model


def take_part(rank: int, folder: Path) -> None:
    """One worker of two, in a process of its own, through all scenarios."""
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(str(folder / "store"), 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    for name, scenario in SCENARIOS.items():
        follow(rank, folder / name, **scenario)
    torch.distributed.destroy_process_group()


def follow(rank: int, folder: Path, before: int | None = None, **scenario: Any) -> None:
    """One worker through one scenario; the first writes down what it saw."""
    model = make_model(**scenario)
    state = read_state(folder / f"before {before}") if before else None
    seen: list[StepFigures] = []

    def on_step(figures: StepFigures, make_state: Callable[[], State]) -> None:
        seen.append(figures)
        made = make_state()
        if rank == 0:
            (folder / str(figures.step)).mkdir()
            write_state(made, folder / str(figures.step))

    place = Place(rank, 2, "cpu", sharded=True)
    train(model, STEPS, settings_of(**scenario), PAD, place, state, on_step)
    held = sum(w.to_local().numel() for w in model.parameters())
    torch.save({"losses": [f.loss for f in seen], "gradients": [f.gradient for f in seen],
                "held": held}, folder / f"{rank}.pt")  # fmt: skip


@dataclass
class Alone:
    """What one worker with all weights sees in a scenario."""

    losses: list[float]
    gradients: list[float]
    states: dict[int, State]
    size: int


@pytest.fixture(scope="module")
def alone() -> dict[str, Alone]:
    return {name: follow_alone(**s) for name, s in SCENARIOS.items() if "before" not in s}


def follow_alone(**scenario: Any) -> Alone:
    states: dict[int, State] = {}
    model = make_model(**scenario)
    size = sum(w.numel() for w in model.parameters())
    seen = tune(model, STEPS, settings_of(**scenario), states=states)
    return Alone([f.loss for f in seen], [f.gradient for f in seen], states, size)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, alone: dict[str, Alone]) -> Path:
    """A folder of each scenario, as two workers left it: started once, since that takes most of
    the time."""
    folder = tmp_path_factory.mktemp("pair")
    for name in SCENARIOS:
        (folder / name).mkdir()
    before = folder / "resumed/before 3"
    before.mkdir()
    write_state(alone["all weights"].states[3], before)
    torch.multiprocessing.spawn(take_part, (folder,), nprocs=2)
    return folder


def both(folder: Path) -> list[Any]:
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["all weights", "an adapter"])
def test_two_workers_that_share_the_weights_out_follow_one(
    folder: Path, alone: dict[str, Alone], scenario: str
) -> None:
    passes = [
        [len(list(lay_out(share(s, r, 2), 64, "bucketed", PAD))) for r in (0, 1)] for s in STEPS
    ]
    assert any(one != other for one, other in passes)  # what as_many is for
    one = alone[scenario]
    for seen in both(folder / scenario):
        assert seen["losses"] == pytest.approx(one.losses, rel=1e-5)
        assert seen["gradients"] == pytest.approx(one.gradients, rel=1e-4)
        assert seen["held"] < 0.6 * one.size
    ours, theirs = one.states[6], read_state(folder / scenario / "6")
    assert theirs["weights"].keys() == ours["weights"].keys()
    for name, weight in ours["weights"].items():
        assert torch.allclose(theirs["weights"][name], weight, atol=1e-5), name


@pytest.mark.slow
def test_a_state_is_the_same_whoever_made_it(folder: Path, alone: dict[str, Alone]) -> None:
    """A run may go on with its weights shared out, or no longer so."""
    losses = alone["all weights"].losses
    for seen in both(folder / "resumed"):
        assert seen["losses"] == pytest.approx(losses[3:], rel=1e-5)
    state = read_state(folder / "resumed/5")
    rest = tune(new_model(seed=1), STEPS, settings_of(), state=state)
    assert [f.loss for f in rest] == pytest.approx(losses[5:], rel=1e-5)


@pytest.mark.slow
def test_in_bfloat16_small_updates_add_up_in_parts(folder: Path, alone: dict[str, Alone]) -> None:
    for seen in both(folder / "bfloat16"):
        assert seen["losses"] == pytest.approx(alone["bfloat16"].losses, rel=1e-2)
    weight = read_state(folder / "bfloat16/6")["weights"]["model.layers.0.mlp.up_proj.weight"]
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
