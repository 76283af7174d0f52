"""The smallest of many leaves, kept up to date: what TorchRL divides its weights by."""

from __future__ import annotations

import torch
from torch import Tensor

_FANOUT = 32


class SmallestLeaf:
    """The minimum over those leaves of an array that are positive.

    Each entry of a level is the minimum of 32 entries below; a leaf of 0 counts as infinite.

    Args:
        leaves: float32 [capacity]; the array is read, and never written to.
    """

    def __init__(self, leaves: Tensor) -> None:
        self._leaves = leaves
        sizes = [leaves.numel()]
        while sizes[-1] > 1:
            sizes.append(-(-sizes[-1] // _FANOUT))
        self._levels = [
            torch.full((-(-size // _FANOUT) * _FANOUT,), torch.inf, device=leaves.device)
            for size in sizes
        ]
        self.update(torch.arange(leaves.numel(), device=leaves.device))

    def update(self, index: Tensor) -> None:
        """Follow the leaves at ``index``, int64 [B], which have changed."""
        value = self._leaves.index_select(0, index)
        self._levels[0].index_copy_(0, index, value.masked_fill(value <= 0, torch.inf))
        for below, level in zip(self._levels, self._levels[1:], strict=False):
            index = index // _FANOUT
            groups = below.view(-1, _FANOUT).index_select(0, index)
            level.index_copy_(0, index, groups.amin(dim=1))

    @property
    def value(self) -> Tensor:
        """0-d float32; infinite where no leaf is positive."""
        return self._levels[-1][0]
