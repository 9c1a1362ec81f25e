"""Sequences to batches: which go together in a step, and how they lie in a tensor.

Enters: a stream of sequences. Leaves: the sequences of each step, a worker's share of them, and the
tensors of its passes. Left to others: making sequences (encode.py), and training (loop.py).

A step holds the same sequences whatever the number of workers: all workers read the same stream,
and each takes its share. So a run with two workers has the same curve as a run with one.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Literal

from engine.training.data.sequences import TokenSequence

if TYPE_CHECKING:
    import torch

Layout = Literal["packed", "bucketed"]


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Tensors of one forward pass.

    ``input_ids`` [rows, tokens]. ``position_ids`` [rows, tokens] restart at 0 with every sequence
    of a packed row; null where each row is one sequence. ``columns`` [kept]: the positions at which
    at least one row has something to predict. ``targets`` and ``weights`` [rows, kept]: the next
    token's id, and the weight of its loss, which is 0 where there is nothing to predict. ``tokens``
    counts without padding.
    """

    input_ids: "torch.Tensor"
    position_ids: "torch.Tensor | None"
    columns: "torch.Tensor"
    targets: "torch.Tensor"
    weights: "torch.Tensor"
    tokens: int


def make_steps(
    sequences: Iterable[TokenSequence], batch_tokens: int, window: int, seed: int
) -> Iterator[list[TokenSequence]]:
    """Group a stream into steps of about ``batch_tokens`` tokens each.

    Sequences are shuffled within a window of ``window`` sequences, which bounds the memory. The
    stream itself should already be in a random order.
    """
    step: list[TokenSequence] = []
    size = 0
    for sequence in _shuffled(sequences, window, Random(seed)):
        step.append(sequence)
        size += len(sequence.ids)
        if size >= batch_tokens:
            yield step
            step, size = [], 0
    if step:
        yield step


def _shuffled(
    sequences: Iterable[TokenSequence], window: int, random: Random
) -> Iterator[TokenSequence]:
    """The stream, in which each sequence is held back in a window for a random time."""
    held: list[TokenSequence] = []
    for sequence in sequences:
        if len(held) < window:
            held.append(sequence)
            continue
        i = random.randrange(window)
        held[i], sequence = sequence, held[i]
        yield sequence
    random.shuffle(held)
    yield from held


def share(step: Sequence[TokenSequence], rank: int, workers: int) -> list[TokenSequence]:
    """One worker's share of a step: sequences of all lengths, about as many tokens as the others.

    A worker that would get none, as there are more workers than sequences, gets the shortest one
    without weight: workers wait for each other's gradients, so each must do a pass.
    """
    ordered = sorted(step, key=lambda s: len(s.ids))
    return ordered[rank::workers] or [TokenSequence(ordered[0].ids, [0.0] * len(ordered[0].ids))]


def without_weight(micro: MicroBatch) -> MicroBatch:
    """The same pass, with all weights 0."""
    return replace(micro, weights=micro.weights * 0)


def lay_out(
    sequences: Sequence[TokenSequence], micro_tokens: int, layout: Layout, pad: int
) -> Iterator[MicroBatch]:
    """Passes of at most ``micro_tokens`` each, padding included, but of at least one sequence.

    ``bucketed``: each row is one sequence, and the rows of a pass have similar lengths. ``packed``:
    a pass is one row of several sequences, told apart by position ids (transformers masks
    accordingly).
    """
    if layout == "bucketed":
        yield from (_tensors([[s] for s in rows], pad) for rows in _bucket(sequences, micro_tokens))
    else:
        yield from (_tensors([row], pad) for row in _pack(sequences, micro_tokens))


def _bucket(sequences: Sequence[TokenSequence], micro_tokens: int) -> Iterator[list[TokenSequence]]:
    rows: list[TokenSequence] = []
    for sequence in sorted(sequences, key=lambda s: -len(s.ids)):
        if rows and _rounded(len(rows[0].ids)) * (len(rows) + 1) > micro_tokens:
            yield rows
            rows = []
        rows.append(sequence)
    if rows:
        yield rows


def _pack(sequences: Sequence[TokenSequence], micro_tokens: int) -> list[list[TokenSequence]]:
    """Rows by first fit, longest sequence first: quick, and rows are close to full."""
    rows: list[list[TokenSequence]] = []
    room: list[int] = []
    for sequence in sorted(sequences, key=lambda s: -len(s.ids)):
        size = len(sequence.ids)
        for i, left in enumerate(room):
            if size <= left:
                rows[i].append(sequence)
                room[i] -= size
                break
        else:
            rows.append([sequence])
            room.append(micro_tokens - size)
    return rows


def _rounded(length: int) -> int:
    """A length rounded up to a multiple of eight, which matrix units compute faster."""
    return -(-length // 8) * 8


def _tensors(rows: Sequence[Sequence[TokenSequence]], pad: int) -> MicroBatch:
    import torch

    lengths = [sum(len(s.ids) for s in row) for row in rows]
    width = _rounded(max(lengths))
    ids = torch.full((len(rows), width), pad, dtype=torch.long)
    positions = torch.zeros((len(rows), width), dtype=torch.long)
    targets = torch.full((len(rows), width), pad, dtype=torch.long)
    weights = torch.zeros((len(rows), width))
    for r, row in enumerate(rows):
        start = 0
        for s in row:
            end = start + len(s.ids)
            ids[r, start:end] = torch.tensor(s.ids)
            positions[r, start:end] = torch.arange(len(s.ids))
            targets[r, start : end - 1] = ids[r, start + 1 : end]
            weights[r, start : end - 1] = torch.tensor(s.weights[1:])
            start = end
        positions[r, start:] = torch.arange(width - start)
    columns = weights.any(0).nonzero()[:, 0]
    packed = any(len(row) > 1 for row in rows)
    return MicroBatch(
        ids, positions if packed else None, columns, targets[:, columns], weights[:, columns],
        sum(lengths),
    )  # fmt: skip
