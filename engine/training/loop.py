"""The training loop: a plain function over a stream of steps.

Enters: a model and the sequences of each step. Leaves: the model, tuned. Left to others: keeping
states and figures, which is the caller's part, be it a script or a worker of Ray Train.
"""

import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from engine.training.data.batches import Layout, MicroBatch, lay_out, share
from engine.training.data.sequences import TokenSequence
from engine.training.sharding import as_many, part_like, shard, whole
from schemas.configs.finetune import Optimisation

if TYPE_CHECKING:
    import torch

State = dict[str, Any]
"""What training resumes from: ``step``, float32 ``weights`` by name, and ``optimizer`` states."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which worker this is (from 0), of how many, and on what device. ``sharded``: each worker
    holds a part of the weights."""

    rank: int = 0
    workers: int = 1
    device: str = "cpu"
    sharded: bool = False


@dataclass(frozen=True, slots=True)
class StepFigures:
    """What one step did, counted from 1. ``loss`` is the mean over all workers, weighted by the
    tokens' weights; ``rate`` the learning rate; ``gradient`` the gradient's length before it was
    clipped. ``tokens`` (of all workers, without padding) and ``seconds`` count since the loop
    began."""

    step: int
    loss: float
    rate: float
    gradient: float
    tokens: int
    seconds: float


def train(
    model: Any,
    steps: Iterable[list[TokenSequence]],
    settings: Optimisation,
    pad: int,
    place: Place = Place(),
    state: State | None = None,
    on_step: Callable[[StepFigures, Callable[[], State]], None] | None = None,
) -> None:
    """Tune ``model`` in place over ``settings.steps`` steps.

    ``steps`` is the stream from its beginning; with a ``state``, the steps before it are skipped.
    ``pad`` is the id of the padding token. ``on_step`` is called after each step with its figures
    and a function that makes the state to resume from. That state has whole weights and is the same
    on all workers; where weights are sharded, all workers must call the function.
    """
    import torch

    if place.sharded:
        shard(model, place.device, place.workers, settings.precision)
    optimizer = _Optimizer(model, settings, place.sharded)
    first = 0
    if state:
        first = state["step"]
        optimizer.load(state)
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    model.train()
    replicated = place.workers > 1 and not place.sharded
    scorer = _wrap(_scorer(model), settings.compile, replicated)
    layout, micro_tokens = _pass_layout(settings, place.device)
    began, tokens = time.monotonic(), 0
    for step, sequences in enumerate(islice(steps, first, settings.steps), first + 1):
        rate = learning_rate(step, settings)
        total = sum(sum(s.weights[1:]) for s in sequences) or 1.0
        part_of_step = share(sequences, place.rank, place.workers)
        passes = list(lay_out(part_of_step, micro_tokens, layout, pad))
        if place.sharded:
            passes = as_many(passes, place.device)
        loss = torch.zeros((), device=place.device)
        for i, micro in enumerate(passes):
            last = i == len(passes) - 1
            with scorer.no_sync() if replicated and not last else nullcontext():
                part = scorer(*_on(micro, place.device)) / total
                # DistributedDataParallel and FSDP average the workers' gradients; we want the sum.
                (part * place.workers).backward()
            loss += part.detach()
        if place.workers > 1:
            torch.distributed.all_reduce(loss)
        gradient = optimizer.step(rate)
        tokens += sum(len(s.ids) for s in sequences)
        if on_step:
            seconds = time.monotonic() - began
            figures = StepFigures(step, float(loss), rate, gradient, tokens, seconds)
            on_step(figures, partial(optimizer.state, step))


def learning_rate(step: int, settings: Optimisation) -> float:
    """The rate of a step counted from 1: it rises linearly, then falls along half a cosine."""
    if step <= settings.warmup_steps:
        return settings.peak_rate * step / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(settings.steps - settings.warmup_steps, 1)
    low = settings.final_rate
    return settings.peak_rate * (low + (1 - low) * (1 + math.cos(math.pi * min(done, 1))) / 2)


def _pass_layout(settings: Optimisation, device: str) -> tuple[Layout, int]:
    """How sequences lie in the tensors of a pass, and how many tokens a pass has at most."""
    on_gpu = device == "cuda"
    layout = settings.layout
    if layout == "auto":
        layout = "packed" if on_gpu else "bucketed"
    # On CPUs small passes are faster, as they stay in the caches: 2,170 tokens/s with 1,024 tokens,
    # 1,780 with 4,096 (width 320, one core).
    return layout, settings.micro_tokens or (8192 if on_gpu else 1024)


def _wrap(scorer: Any, compiled: bool, replicated: bool) -> Any:
    """The scorer, compiled, and with its gradients shared among workers, where that is wanted."""
    import torch

    if compiled:
        # Otherwise each graph is cut where gradients could be sent early, which only the last pass
        # of a step does.
        torch._dynamo.config.optimize_ddp = False
        # Passes have many shapes: one graph for all, not a minute of compiling for each.
        scorer = torch.compile(scorer, dynamic=True)
    return torch.nn.parallel.DistributedDataParallel(scorer) if replicated else scorer


def _on(micro: MicroBatch, device: str) -> tuple[Any, ...]:
    tensors = (micro.input_ids, micro.position_ids, micro.columns, micro.targets, micro.weights)
    if device == "cpu":
        return tensors
    return tuple(t if t is None else t.to(device, non_blocking=True) for t in tensors)


def _scorer(model: Any) -> "torch.nn.Module":
    """A module that takes the tensors of a pass and gives the weighted sum of its losses."""
    import torch

    class Scorer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(
            self,
            input_ids: "torch.Tensor",
            position_ids: "torch.Tensor | None",
            columns: "torch.Tensor",
            targets: "torch.Tensor",
            weights: "torch.Tensor",
        ) -> "torch.Tensor":
            # Padding is on the right, where a causal model does not see it, so no mask is needed.
            logits = self.model(
                input_ids=input_ids,
                position_ids=position_ids,
                use_cache=False,
                logits_to_keep=columns,
            ).logits
            losses = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1).float(), targets.flatten(), reduction="none"
            )
            return losses @ weights.flatten()

    return Scorer()


def _embeddings(model: Any) -> list[Any]:
    """The input and output embeddings, which may share their weights."""
    modules = (model.get_input_embeddings(), model.get_output_embeddings())
    return [m for m in modules if m is not None]


class _Optimizer:
    """AdamW or Muon over float32 weights, whatever the precision of the forward pass.

    In bfloat16 the model's own weights are only copies of float32 ones, the masters: an update is
    often smaller than the last bit of a bfloat16 number. A sharded model keeps its weights in
    float32 itself; its copies are made as a layer is put together.
    """

    def __init__(self, model: Any, settings: Optimisation, sharded: bool):
        import torch

        self._names, self._weights = [], []
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                self._names.append(name)
                self._weights.append(weight)
        self._masters = self._weights
        if settings.precision == "bfloat16" and not sharded:
            self._masters = [w.detach().float().requires_grad_() for w in self._weights]
            # Not model.to(), which would round the rotary frequencies too; they are no weights.
            for weight in model.parameters():
                weight.data = weight.data.to(torch.bfloat16)
        self._clip = settings.clip
        embeddings = {id(m.weight) for m in _embeddings(model)}
        inner: list[Any] = []
        outer: list[Any] = []
        vectors: list[Any] = []
        for weight, master in zip(self._weights, self._masters, strict=True):
            if master.ndim < 2:
                vectors.append(master)
            else:
                (outer if id(weight) in embeddings else inner).append(master)
        decay = settings.weight_decay
        self._parts: list[torch.optim.Optimizer] = []
        if settings.optimizer == "muon":
            self._parts.append(
                torch.optim.Muon(inner, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
            )
            inner = []
        groups = [
            {"params": inner + outer, "weight_decay": decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self._parts.append(torch.optim.AdamW(groups, betas=(0.9, settings.beta2), fused=True))

    def step(self, rate: float) -> float:
        """Update the weights; gives the gradient's length before it was clipped."""
        import torch

        copies = self._masters is not self._weights
        if copies:
            for master, weight in zip(self._masters, self._weights, strict=True):
                master.grad = None if weight.grad is None else weight.grad.float()
        length = torch.nn.utils.clip_grad_norm_(self._masters, self._clip)
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()
        if copies:
            with torch.no_grad():
                for master, weight in zip(self._masters, self._weights, strict=True):
                    weight.copy_(master)
                    weight.grad = None
        for master in self._masters:
            master.grad = None
        return float(whole(length))

    def state(self, step: int) -> State:
        """The state after a step: float32 weights by name, and the optimizer's moments."""
        weights = {n: whole(m.detach()) for n, m in zip(self._names, self._masters, strict=True)}
        kept = [part.state_dict() for part in self._parts]
        for part in kept:
            part["state"] = {
                i: {name: whole(moment) for name, moment in moments.items()}
                for i, moments in part["state"].items()
            }
        return {"step": step, "weights": weights, "optimizer": kept}

    def load(self, state: State) -> None:
        """Restore a state that :meth:`state` made.

        Raises:
            ValueError: if it is the state of a model with other weights.
        """
        import torch

        if set(state["weights"]) != set(self._names):
            raise ValueError("the state is of a model with other weights")
        with torch.no_grad():
            for name, master, weight in zip(self._names, self._masters, self._weights, strict=True):
                master.copy_(part_like(state["weights"][name], master))
                weight.copy_(master)
        for part, kept in zip(self._parts, state["optimizer"], strict=True):
            moved = [weight for group in part.param_groups for weight in group["params"]]
            moments = {
                i: {name: part_like(value, moved[i]) for name, value in values.items()}
                for i, values in kept["state"].items()
            }
            part.load_state_dict({**kept, "state": moments})
