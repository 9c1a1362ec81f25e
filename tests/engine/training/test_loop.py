"""The loop: what it does to weights, and that it can be stopped."""

import copy
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from engine.training.data.batches import Layout, MicroBatch, lay_out, make_steps, share
from engine.training.data.sequences import TokenSequence
from engine.training.loop import State, StepFigures, learning_rate, train
from schemas.configs.finetune import Optimisation

PAD = 3


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """On a busy machine threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def new_model(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=256,
        tie_word_embeddings=True, pad_token_id=PAD, attn_implementation="eager",
    )  # fmt: skip
    return LlamaForCausalLM(config)


def make_sequences(count: int, seed: int = 0) -> list[TokenSequence]:
    """Prompts without weight and answers with, of many lengths."""
    random = Random(seed)
    found = []
    for _ in range(count):
        prompt, answer = random.randint(1, 30), random.randint(1, 30)
        ids = [random.randrange(4, 64) for _ in range(prompt + answer)]
        found.append(TokenSequence(ids, [0.0] * prompt + [random.choice([0.5, 1.0])] * answer))
    return found


def optimisation(**changes: Any) -> Optimisation:
    values = {
        "steps": 6, "batch_tokens": 300, "micro_tokens": 200, "peak_rate": 3e-3, "warmup_steps": 2,
        "window": 20, "precision": "float32", "layout": "packed",
    }  # fmt: skip
    return Optimisation(**(values | changes))


def tune(
    model: Any,
    steps: Sequence[list[TokenSequence]],
    settings: Optimisation,
    state: State | None = None,
    states: dict[int, State] | None = None,
) -> list[StepFigures]:
    """The figures of each step; ``states`` is filled with copies of all states."""
    seen = []

    def on_step(figures: StepFigures, make_state: Any) -> None:
        seen.append(figures)
        if states is not None:
            states[figures.step] = copy.deepcopy(make_state())

    train(model, steps, settings, PAD, state=state, on_step=on_step)
    return seen


def make_some_steps(settings: Optimisation) -> list[list[TokenSequence]]:
    return list(make_steps(make_sequences(80), settings.batch_tokens, settings.window, 0))


def gradients(model: Any, micros: Sequence[MicroBatch]) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of all micro-batches together, as the loop adds them."""
    from engine.training.loop import _scorer

    scorer = _scorer(model.train())
    model.zero_grad()
    loss = 0.0
    for m in micros:
        part = scorer(m.input_ids, m.position_ids, m.columns, m.targets, m.weights)
        part.backward()
        loss += float(part.detach())
    return loss, {n: p.grad.clone() for n, p in model.named_parameters()}


def one_by_one(
    model: Any, sequences: Sequence[TokenSequence]
) -> tuple[float, dict[str, torch.Tensor]]:
    """The same by nothing of ours: a sequence at a time, its loss written out."""
    model.train()
    model.zero_grad()
    loss = 0.0
    for s in sequences:
        logs = model(input_ids=torch.tensor([s.ids])).logits[0].log_softmax(-1)
        picked = logs[torch.arange(len(s.ids) - 1), torch.tensor(s.ids[1:])]
        part = -(picked * torch.tensor(s.weights[1:])).sum()
        part.backward()
        loss += float(part.detach())
    return loss, {n: p.grad.clone() for n, p in model.named_parameters()}


@pytest.mark.parametrize("layout", ["packed", "bucketed"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("micro_tokens", [64, 200, 100_000])
def test_layouts_give_the_loss_and_gradients_of_one_by_one(
    layout: Layout, attention: str, micro_tokens: int
) -> None:
    sequences = make_sequences(20)
    model = new_model()
    model.config._attn_implementation = attention
    expected, by_name = one_by_one(model, sequences)
    loss, found = gradients(model, list(lay_out(sequences, micro_tokens, layout, PAD)))
    assert loss == pytest.approx(expected, rel=1e-5)
    for name, gradient in by_name.items():
        scale = float(gradient.abs().max())
        assert float((found[name] - gradient).abs().max()) <= 1e-5 * scale, name


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_layouts_follow_one_curve(precision: str) -> None:
    curves = []
    for layout in ("packed", "bucketed"):
        settings = optimisation(layout=layout, precision=precision)
        curves.append([f.loss for f in tune(new_model(), make_some_steps(settings), settings)])
    assert curves[0][-1] < curves[0][0]
    assert curves[0] == pytest.approx(curves[1], rel=1e-5 if precision == "float32" else 1e-2)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("stop", [1, 5])
def test_resumed_from_a_state_the_curve_is_the_same(
    precision: str, optimizer: str, stop: int
) -> None:
    settings = optimisation(precision=precision, optimizer=optimizer)
    steps = make_some_steps(settings)
    states: dict[int, State] = {}
    whole = tune(new_model(), steps, settings, states=states)
    other = new_model(seed=1)
    rest = tune(other, steps, settings, state=states[stop])
    assert [f.step for f in rest] == list(range(stop + 1, settings.steps + 1))
    assert [f.loss for f in rest] == pytest.approx([f.loss for f in whole[stop:]], abs=1e-6)
    assert [f.rate for f in rest] == [f.rate for f in whole[stop:]]


def test_muon_moves_the_matrices_between_embeddings_as_far_as_adamw_would() -> None:
    """Its scale: each update's root mean square is 0.2 of the rate."""
    settings = optimisation(
        steps=1, warmup_steps=1, optimizer="muon", peak_rate=1e-3, weight_decay=0.0
    )
    model = new_model()
    before = {n: w.detach().clone() for n, w in model.named_parameters()}
    tune(model, make_some_steps(settings), settings)
    for name, weight in model.named_parameters():
        moved = float((weight.detach() - before[name]).square().mean().sqrt())
        if weight.ndim == 2 and "embed" not in name:
            assert moved == pytest.approx(2e-4, rel=0.3), name
        else:  # AdamW's first step is the rate itself, wherever there was a gradient
            assert 5e-4 < moved < 1.01e-3, name


def test_a_state_of_another_model_is_refused() -> None:
    settings = optimisation(steps=1)
    states: dict[int, State] = {}
    tune(new_model(), make_some_steps(settings), settings, states=states)
    del states[1]["weights"]["model.norm.weight"]
    with pytest.raises(ValueError, match="other weights"):
        tune(new_model(), make_some_steps(settings), settings, state=states[1])


def test_a_step_without_anything_to_predict_moves_nothing() -> None:
    model = new_model()
    settings = optimisation(steps=2, weight_decay=0.0)
    mute = [TokenSequence(s.ids, [0.0] * len(s.ids)) for s in make_sequences(3)]
    figures = tune(model, [mute, make_sequences(5)], settings)
    assert figures[0].loss == figures[0].gradient == 0
    assert 0 < figures[1].loss < 10


def test_in_bfloat16_positions_stay_exact() -> None:
    """Rounded to bfloat16, the rotary frequencies were off by a tenth of a radian at token 240;
    whoever uses the tuned weights has the exact ones."""
    model = new_model()
    exact = model.model.rotary_emb.inv_freq.clone()
    settings = optimisation(steps=1, precision="bfloat16")
    tune(model, make_some_steps(settings), settings)
    assert model.model.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16
    assert torch.equal(model.model.rotary_emb.inv_freq, exact)


def test_in_bfloat16_small_updates_add_up() -> None:
    settings = optimisation(steps=6, precision="bfloat16", peak_rate=1e-5, warmup_steps=0)
    states: dict[int, State] = {}
    tune(new_model(), make_some_steps(settings), settings, states=states)
    name = "model.layers.0.mlp.up_proj.weight"
    before, after = new_model().get_parameter(name).detach(), states[6]["weights"][name]
    assert after.dtype == torch.float32
    assert 1e-6 < float((after - before).abs().max()) < 1e-4


@given(st.integers(1, 1000), st.integers(0, 1200), st.floats(1e-6, 1.0), st.floats(0, 1), st.data())
def test_the_rate_rises_to_its_peak_and_falls_to_its_end(
    steps: int, warmup: int, peak: float, final: float, data: st.DataObject
) -> None:
    settings = Optimisation(steps=steps, warmup_steps=warmup, peak_rate=peak, final_rate=final)
    step = data.draw(st.integers(1, steps))
    rate, following = learning_rate(step, settings), learning_rate(step + 1, settings)
    assert 0 < rate <= peak * (1 + 1e-9) or final == 0
    if step < warmup:
        assert rate < following
    else:
        assert following <= rate * (1 + 1e-9)
    if warmup and warmup <= steps:
        assert learning_rate(warmup, settings) == pytest.approx(peak)
    if warmup < steps:
        assert learning_rate(steps, settings) == pytest.approx(final * peak, abs=1e-12)


@settings(max_examples=10)
@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 12))
def test_workers_together_have_the_gradients_of_one(seed: int, workers: int, count: int) -> None:
    step = make_sequences(count, seed)
    model = new_model()
    expected = gradients(model, list(lay_out(step, 128, "bucketed", PAD)))
    parts = [
        gradients(model, list(lay_out(share(step, rank, workers), 128, "bucketed", PAD)))
        for rank in range(workers)
    ]
    assert sum(loss for loss, _ in parts) == pytest.approx(expected[0], rel=1e-5)
    for name, gradient in expected[1].items():
        total = torch.stack([g[name] for _, g in parts]).sum(0)
        assert float((total - gradient).abs().max()) <= 1e-5 * float(gradient.abs().max()), name
