"""Weights sharded among workers (PyTorch's FSDP), for models that one device does not hold.

Enters: a model, or one of its tensors. Leaves: the model sharded in place, or the tensor whole or
in parts. Left to others: training (loop.py), and processes that can talk to each other (Ray Train).

Each worker keeps its part of every weight, gradient and moment, in float32. The weights of a layer
are put together when the layer runs, in the precision of the forward pass, and released after it.
"""

from typing import TYPE_CHECKING, Any

from engine.training.data.batches import MicroBatch, without_weight

if TYPE_CHECKING:
    import torch


def shard(model: Any, device: str, workers: int, precision: str) -> None:
    """Shard a model's weights in place, layer by layer; all workers must call it, with the same
    model. Of a model on the CPU, no more than one layer at a time is whole on the device."""
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(device, (workers,))
    low = torch.bfloat16 if precision == "bfloat16" else None
    policy = MixedPrecisionPolicy(param_dtype=low, reduce_dtype=torch.float32)
    layers = set(model._no_split_modules or ())  # the layers, as transformers names them
    for module in model.modules():
        if type(module).__name__ in layers:
            fully_shard(module, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)


def whole(tensor: Any) -> Any:
    """A sharded tensor put together from all workers' parts, on the CPU; any other tensor as it
    is. All workers must call it."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor().cpu() if isinstance(tensor, DTensor) else tensor


def part_like(tensor: "torch.Tensor", like: Any) -> Any:
    """This worker's part of a whole tensor, sharded as ``like`` is. The tensor as it is, if
    ``like`` is not sharded or has another shape (as a count of steps has)."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    # Every worker has read the whole state, so no part has to be sent.
    return distribute_tensor(
        tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None
    )


def as_many(passes: list[MicroBatch], device: str) -> list[MicroBatch]:
    """A worker's passes, filled up to the number of the worker with the most; the added ones have
    no weight. All workers must do the same number, since each pass needs weights from all."""
    import torch

    most = torch.tensor(len(passes), device=device)
    torch.distributed.all_reduce(most, torch.distributed.ReduceOp.MAX)
    return passes + [without_weight(passes[0])] * (int(most) - len(passes))
