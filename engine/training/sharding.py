"""Weights shared out among workers (PyTorch's FSDP), for models that one device does not hold.

Each worker keeps its part of every weight, gradient and moment, in float32. A layer's weights are
put together when it is its turn, in the precision of the forward pass, and taken apart again.
"""

from typing import TYPE_CHECKING, Any

from engine.training.data.batches import MicroBatch, without_weight

if TYPE_CHECKING:
    import torch


def shard(model: Any, device: str, workers: int, precision: str) -> None:
    """Share a model's weights out in place, layer by layer. All workers call it, with the same
    model; from the CPU, no more than a layer at a time is whole on the device."""
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(device, (workers,))
    low = torch.bfloat16 if precision == "bfloat16" else None
    policy = MixedPrecisionPolicy(param_dtype=low, reduce_dtype=torch.float32)
    layers = set(model._no_split_modules or ())  # transformers' own note of what goes together
    for module in model.modules():
        if type(module).__name__ in layers:
            fully_shard(module, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)


def whole(tensor: Any) -> Any:
    """A tensor put together from all workers' parts, on the CPU; one that is not shared out, as it
    is. All workers call it."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor().cpu() if isinstance(tensor, DTensor) else tensor


def part_like(tensor: "torch.Tensor", like: Any) -> Any:
    """This worker's part of a whole tensor, shared out as ``like`` is; of another shape (a count),
    or beside a ``like`` that is whole, the tensor as it is."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    # Every worker has read the state: none needs to be sent its part.
    return distribute_tensor(
        tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None
    )


def as_many(mine: list[MicroBatch], device: str) -> list[MicroBatch]:
    """A worker's passes, as many as the worker with the most has: in each pass all workers wait
    for each other's weights. Those added count for nothing."""
    import torch

    most = torch.tensor(len(mine), device=device)
    torch.distributed.all_reduce(most, torch.distributed.ReduceOp.MAX)
    return mine + [without_weight(mine[0])] * (int(most) - len(mine))
