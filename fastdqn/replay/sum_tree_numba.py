"""A sum tree's work on a CPU, one loop for each call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastdqn.replay import kernels
from fastdqn.replay.incoming import check_inside
from fastdqn.system.loops import to_array


class TreeInNumba:
    """Writes and draws leaves by :mod:`fastdqn.replay.kernels`.

    Args:
        flat: float32, all levels, leaves first.
        sizes: Of the levels.
        fanout: Entries summed into one; a power of two.
        capacity: Leaves that may be written.
    """

    def __init__(self, flat: Tensor, sizes: Sequence[int], fanout: int, capacity: int) -> None:
        self._flat, self._capacity = flat, capacity
        self._starts = np.cumsum([0, *sizes])
        self._shift = fanout.bit_length() - 1

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, int]:
        """What the loops want to know: the memory, where each level begins, log2 of the fanout."""
        return self._flat.numpy(), self._starts, self._shift

    def compile_parts(self, compiled: Callable[[Callable[..., Any]], Any]) -> None:
        """Nothing: the loops are compiled."""

    def set(self, index: Tensor, value: Tensor) -> None:
        """As :meth:`fastdqn.replay.sum_tree.SumTree.set`; FastDQNError where one is no leaf's."""
        inside = kernels.set_leaves(*self.arrays, self._capacity, to_array(index), to_array(value))
        check_inside(inside, index, self._capacity)

    def sample(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`fastdqn.replay.sum_tree.SumTree.sample`."""
        drawn = np.empty(uniform.shape[1], np.int64), np.empty(uniform.shape[1], np.float32)
        kernels.draw_leaves(*self.arrays, to_array(uniform), *drawn)
        return torch.from_numpy(drawn[0]), torch.from_numpy(drawn[1])
