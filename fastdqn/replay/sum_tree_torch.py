"""A sum tree's work in torch: on a GPU, where it can be captured, and on a CPU without Numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_ALMOST_ONE = 1.0 - 2.0**-24  # the largest float32 below 1


class TreeInTorch:
    """Writes and draws leaves in batched operations.

    Args:
        levels: float32, leaves first; of all but the last whole groups.
        fanout: Entries of a group.
    """

    def __init__(self, levels: list[Tensor], fanout: int) -> None:
        self._levels, self._fanout = levels, fanout
        # A group's entries side by side: level i seen as [groups, fanout].
        self._groups = [level.view(-1, fanout) for level in levels[:-1]]
        self._sums = _group_sums

    def compile_parts(self, compiled: Callable[[Callable[..., Any]], Any]) -> None:
        """Make what is pure in :meth:`set` fast by ``compiled``."""
        self._sums = compiled(_group_sums)

    def set(self, index: Tensor, value: Tensor) -> None:
        """As :meth:`fastdqn.replay.sum_tree.SumTree.set`."""
        self._levels[0].scatter_reduce_(0, index, value, "amax", include_self=False)
        for group, above in zip(self._groups, self._levels[1:], strict=True):
            if index.numel() < len(group):
                index, sums = self._sums(group, index, self._fanout)
                above.index_copy_(0, index, sums)
            else:  # cheaper, and a bulk write needs no memory of index.numel() * fanout
                index = index // self._fanout
                above[: len(group)].copy_(group.sum(dim=1))

    def sample(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`fastdqn.replay.sum_tree.SumTree.sample`."""
        uniform = uniform.clamp(max=_ALMOST_ONE)
        index = _pick(self._levels[-1], uniform[0])
        for depth, group in enumerate(reversed(self._groups), start=1):
            inside = _pick(group.index_select(0, index), uniform[depth].unsqueeze(1)).squeeze(1)
            index = index * self._fanout + inside
        return index, self._levels[0].index_select(0, index)


def _group_sums(group: Tensor, index: Tensor, fanout: int) -> tuple[Tensor, Tensor]:
    """The groups that the entries at ``index`` are in, and what each now sums to; pure."""
    index = index // fanout
    return index, group.index_select(0, index).sum(dim=1)


def _pick(values: Tensor, uniform: Tensor) -> Tensor:
    """First position along the last axis whose cumulative sum exceeds ``uniform * sum``.

    Since uniform < 1, ``uniform * sum`` rounds to below the sum, so the position exists.
    """
    repeats = values.is_cuda and torch.are_deterministic_algorithms_enabled()
    cumulative = _sums_by_product(values) if repeats else values.cumsum(dim=-1)
    threshold = uniform * cumulative[..., -1:]
    if values.device.type == "cpu":
        # Summed in sequence, so it never falls, and only rises where a value is positive: the
        # first entry above the threshold cannot be a zero.
        return torch.searchsorted(cumulative, threshold, right=True)
    return _pick_positive(values, cumulative, threshold)


def _sums_by_product(values: Tensor) -> Tensor:
    """``values.cumsum(-1)`` where torch refuses that, since its order of additions may change."""
    size = values.shape[-1]
    entries = torch.arange(size, device=values.device)
    # float64: a product of float32 may be TF32, which keeps ten bits.
    before = (entries.unsqueeze(1) <= entries).to(torch.float64)
    return (values.to(torch.float64) @ before).to(values.dtype)


def _pick_positive(values: Tensor, cumulative: Tensor, threshold: Tensor) -> Tensor:
    """The same for cumulative sums made in parallel, which may rise at a zero by a rounding."""
    if values.dim() == 1:
        threshold = threshold.unsqueeze(-1)
    passed = (cumulative > threshold) & (values > 0)
    # argmax takes the first of the largest; if rounding leaves none, the first positive serves.
    choice = (passed.to(torch.uint8) * 2 + (values > 0).to(torch.uint8)).argmax(dim=-1)
    return choice if values.dim() == 1 else choice.unsqueeze(-1)
