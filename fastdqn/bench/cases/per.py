"""Prioritized replay: drawing, writing back, and both with the gather between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastdqn.bench.checks import expect, expect_close, expect_distribution, expect_transitions
from fastdqn.bench.context import Context
from fastdqn.bench.workload import UnavailableError, Workload
from fastdqn.replay.sum_tree import SumTree

_DRAWS = 20_000  # for the check of the distribution
_BATCHES = 16  # written in turns, drawn beforehand


def make(context: Context, *, work: str, size: int, batch_size: int, **which: Any) -> Workload:
    """The workload of one ``per/`` case: a repeat is one batch."""
    if work == "cycle":
        return _cycle(context, which["net"], size, batch_size)
    size, batch_size = context.small(size, 5_000), context.small(batch_size, 64)
    leaves = torch.rand(size, generator=context.generator(0), device=context.device)
    leaves[:: max(2, size // 1000)] = 0.0  # some rows cannot be drawn
    sample, update, stored = _TREES[which["tree"]](context, leaves)
    return (_sample if work == "sample" else _update)(
        context, sample, update, stored, leaves, batch_size
    )


Sample = Callable[[int], Tensor]
Update = Callable[[Tensor, Tensor], object]
Stored = Callable[[Tensor], Tensor]


def _sample(
    context: Context, sample: Sample, _: Update, __: Stored, leaves: Tensor, batch_size: int
) -> Workload:
    def run(repeats: int) -> None:
        for _ in range(repeats):
            sample(batch_size)

    def check() -> None:
        expect(sample(batch_size).shape == (batch_size,), "not as many draws as asked for")
        expect_distribution(sample(_DRAWS), leaves)

    return Workload(run=run, check=check, unit="batch", counts={"samples": batch_size}, threads=1)


def _update(
    context: Context, sample: Sample, update: Update, stored: Stored, leaves: Tensor,
    batch_size: int,
) -> Workload:  # fmt: skip
    generator = context.generator(2)
    writes = []
    for _ in range(_BATCHES):  # values stay what they are, so that the tree keeps its shape
        index = torch.randint(
            0, leaves.numel(), (batch_size,), generator=generator, device=context.device
        )
        writes.append((index, leaves.index_select(0, index)))

    def run(repeats: int) -> None:
        for turn in range(repeats):
            update(*writes[turn % _BATCHES])

    def check() -> None:
        index = torch.arange(0, leaves.numel(), max(1, leaves.numel() // batch_size))[:batch_size]
        index = index.to(context.device)
        value = torch.rand(index.numel(), generator=generator, device=context.device) + 0.5
        update(index, value)
        expect_close(stored(index), value, 1e-6, "leaves just written")
        changed = leaves.clone()
        changed[index] = value
        expect_distribution(sample(_DRAWS), changed)
        update(index, leaves.index_select(0, index))
        run(1)

    return Workload(run=run, check=check, unit="batch", counts={"samples": batch_size}, threads=1)


def _sum_tree(context: Context, leaves: Tensor) -> tuple[Sample, Update, Stored]:
    tree = SumTree(leaves.numel(), device=context.device)
    tree.set(torch.arange(leaves.numel(), device=context.device), leaves)
    generator = context.generator(1)

    def sample(batch_size: int) -> Tensor:
        shape = (tree.levels, batch_size)
        uniform = torch.rand(shape, generator=generator, device=context.device)
        return tree.sample(uniform)[0]

    return sample, tree.set, tree.get


def _cumsum(context: Context, leaves: Tensor) -> tuple[Sample, Update, Stored]:
    own = leaves.clone()
    generator = context.generator(1)

    def sample(batch_size: int) -> Tensor:
        cumulative = own.double().cumsum(0)  # a float32 sum of 1e6 leaves loses the small ones
        uniform = torch.rand(
            batch_size, generator=generator, device=context.device, dtype=torch.float64
        )
        return torch.searchsorted(cumulative, uniform * cumulative[-1], right=True)

    def update(index: Tensor, value: Tensor) -> None:
        own.index_copy_(0, index, value)

    return sample, update, lambda index: own.index_select(0, index)


def _torchrl(context: Context, leaves: Tensor) -> tuple[Sample, Update, Stored]:
    try:
        from torchrl import _torchrl
    except ImportError as error:
        why = str(error).partition(":")[2].strip()[:60] or "not built"
        raise UnavailableError(f"torchrl's C++ extension does not load ({why})") from None
    name = "CudaSumSegmentTreeFp32" if context.device.type == "cuda" else "SumSegmentTreeFp32"
    if not hasattr(_torchrl, name):
        raise UnavailableError(f"this build of torchrl has no {name}")
    tree = getattr(_torchrl, name)(leaves.numel())
    tree[torch.arange(leaves.numel(), device=context.device)] = leaves
    generator = context.generator(1)

    def sample(batch_size: int) -> Tensor:
        total = tree.query(0, leaves.numel())
        uniform = torch.rand(batch_size, generator=generator, device=context.device)
        return tree.scan_lower_bound(uniform * total)

    return sample, tree.__setitem__, tree.__getitem__


_TREES = {"sumtree": _sum_tree, "cumsum": _cumsum, "torchrl": _torchrl}


def _cycle(context: Context, net: str, size: int, batch_size: int) -> Workload:
    batch_size = context.small(batch_size, 64)
    size = context.small(size, 2_000)
    replay = context.replay(net, prioritized=True, capacity=size)
    generator = context.generator(3)
    priority = torch.rand(batch_size, generator=generator, device=context.device)

    def run(repeats: int) -> None:
        for _ in range(repeats):
            batch = replay.sample(batch_size, beta=0.6)
            replay.write_priorities(batch.index, priority)

    def check() -> None:
        batch = replay.sample(batch_size, beta=0.6)
        expect_transitions(replay, batch)
        leaf = replay.tree.get(batch.index)
        weight = (leaf.double() ** -0.6) / (leaf.double() ** -0.6).max()
        expect_close(batch.weight, weight, 1e-5, "importance weights")
        index = batch.index.unique()
        value = priority[: index.numel()]
        replay.update_priorities(index, value)
        expected = (value + replay.priority_epsilon) ** replay.alpha
        expect_close(replay.tree.get(index), expected, 1e-5, "priorities written back")

    return Workload(
        run=run,
        check=check,
        unit="cycle",
        counts={"samples": batch_size},
        threads=1,
        details={"capacity": replay.capacity},
    )
