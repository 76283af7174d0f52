"""The smallest of many leaves, kept up to date: what TorchRL divides its weights by."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fastdqn.integrations.torchrl import sampler_kernels as kernels
from fastdqn.system import loops

_SHIFT = 5
_FANOUT = 1 << _SHIFT


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
        sizes = [-(-size // _FANOUT) * _FANOUT for size in sizes]
        self._flat = torch.full((sum(sizes),), torch.inf, device=leaves.device)
        self._levels = self._flat.split(sizes)
        self._starts = np.cumsum([0, *sizes[:-1]])
        self._in_loops = loops.choose_loops(leaves.device)
        self.update(torch.arange(leaves.numel(), device=leaves.device))

    def update(self, index: Tensor) -> None:
        """Follow the leaves at ``index``, int64 [B], which have changed."""
        if self._in_loops:
            kernels.smallest_up(
                self._leaves.numpy(), self._flat.numpy(), self._starts, _SHIFT,
                loops.to_array(index),
            )  # fmt: skip
            return
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
