"""What a sampler draws from: a sum tree, the largest priority, and, where asked, the smallest."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fastdqn.errors import FastDQNError
from fastdqn.integrations.torchrl import sampler_kernels as kernels
from fastdqn.integrations.torchrl.smallest import SmallestLeaf
from fastdqn.replay.priorities import LARGEST_PRIORITY
from fastdqn.replay.sum_tree import SumTree
from fastdqn.system.loops import to_array


class PriorityTree:
    """Rows with leaves ``(priority + eps)^alpha``.

    Args:
        capacity: Rows.
        smallest: Divide importance weights by the largest that any row has; else by the batch's.
        device: Where it lives.

    Attributes:
        largest: The largest priority ever, raw, 0-d float32; 1 at first.
    """

    def __init__(self, capacity: int, *, smallest: bool, device: torch.device) -> None:
        self.capacity, self.device = capacity, device
        # One leaf more than there are rows, always 0: where on a GPU a write to nowhere goes.
        self._tree = SumTree(capacity + 1, device=device)
        self.largest = torch.ones((), device=device)
        self._smallest = SmallestLeaf(self._tree.leaves) if smallest else None

    @property
    def levels(self) -> int:
        """Rows that :meth:`draw` wants of its uniform numbers."""
        return self._tree.levels

    @property
    def leaves(self) -> Tensor:
        """Float32 [capacity]; 0 where there is no row. A view, not to be written to."""
        return self._tree.leaves[:-1]

    def draw(self, uniform: Tensor, beta: float) -> tuple[Tensor, Tensor]:
        """Rows, int64 [B], and importance weights, float32 [B].

        Args:
            uniform: float32 [levels, B] in [0, 1), which is used up.
            beta: Exponent of the weights.

        Raises:
            FastDQNError: Where no leaf is positive; on a GPU that is not looked at.
        """
        count, loops = uniform.shape[1], self._tree.in_numba
        if loops is not None:
            index, weight = np.empty(count, np.int64), np.empty(count, np.float32)
            least = 0.0 if self._smallest is None else float(self._smallest.value)
            if not kernels.draw(
                *loops.arrays, uniform.numpy(), np.float32(beta), np.float32(least), index, weight
            ):
                raise _nothing_to_draw()
            return torch.from_numpy(index), torch.from_numpy(weight)
        uniform[0].add_(torch.arange(count, device=self.device)).div_(count)
        rows, leaf = self._tree.draw(uniform)
        if self.device.type == "cpu" and not bool((leaf > 0).all()):
            raise _nothing_to_draw()
        smallest = leaf.min() if self._smallest is None else self._smallest.value
        return rows, (smallest / leaf) ** beta

    def write(self, rows: Tensor, raw: Tensor, eps: float, alpha: float) -> None:
        """Set priorities.

        Args:
            rows: int64 [B]; negative ones are passed over, of duplicates the largest wins.
            raw: float32 [B]; one that is not finite counts as the largest ever.
            eps: Added to them.
            alpha: Exponent.

        Raises:
            FastDQNError: Where a row is out of range; on a GPU that is torch's to find.
        """
        if rows.numel() == 0:
            return
        loops = self._tree.in_numba
        if loops is not None:
            if kernels.write(
                *loops.arrays, self.capacity, to_array(rows), to_array(raw),
                np.float32(eps), np.float32(alpha), self.largest.numpy(),
            ):  # fmt: skip
                raise self._out_of_range(rows)
        else:
            if self.device.type == "cpu" and int(rows.max()) >= self.capacity:
                raise self._out_of_range(rows)
            raw = torch.where(torch.isfinite(raw), raw, self.largest).clamp(0.0, LARGEST_PRIORITY)
            nowhere = rows < 0
            self.largest.copy_(torch.maximum(self.largest, raw.masked_fill(nowhere, 0.0).max()))
            leaf = ((raw + eps) ** alpha).masked_fill(nowhere, 0.0)
            self._tree.write(rows.masked_fill(nowhere, self.capacity), leaf)
        if self._smallest is not None:
            self._smallest.update(rows.clamp(min=0))  # to look at a leaf again is harmless

    def set_leaves(self, leaves: Tensor) -> None:
        """Write all of them, float32 [capacity]."""
        rows = torch.arange(self.capacity, device=self.device)
        self._tree.write(rows, leaves.to(self.device))
        if self._smallest is not None:
            self._smallest.update(rows)

    def _out_of_range(self, rows: Tensor) -> FastDQNError:
        return FastDQNError(
            f"index = {int(rows.max())} is out of range; use 0 to {self.capacity - 1}."
        )


def _nothing_to_draw() -> FastDQNError:
    return FastDQNError(
        "No row of the storage has a priority; make the buffer with this sampler, or call "
        "update_priority."
    )
