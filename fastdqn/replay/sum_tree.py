"""A wide sum tree: draws leaves in proportion to their values, in a handful of batched operations.

Level 0 holds the leaves; each entry of a higher level is the sum of ``fanout`` entries below. The
top level is short enough to be searched as one cumulative sum, so a tree of 2^20 leaves has three
levels on a CPU (1024, 32, 32) and two on a GPU (1024, 1024) instead of twenty.

Sums are recomputed from the entries below, never changed by a difference: repeated writes are
idempotent, duplicates are harmless and nothing drifts. Each level has a uniform number of its own:
one float32 number over 2^20 leaves leaves 8 to 16 values per leaf, a bias of up to 10 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastdqn.errors import CheckpointError, ConfigError
from fastdqn.replay import kernels
from fastdqn.replay.pages import resident_zeros

_CPU_FANOUT, _CPU_TOP = 32, 1024  # the fastest of the shapes measured on a CPU
_ALMOST_ONE = 1.0 - 2.0**-24  # the largest float32 below 1


class SumTree:
    """Leaves with values >= 0, drawn with probability ``value / total``.

    Args:
        capacity: Number of leaves, >= 1; all start at 0.
        fanout: Entries summed into one; None chooses for the device.
        device: Where the levels live.
        compiled: Whether Numba's loops do the work on a CPU; None: where it is installed. They
            want a fanout that is a power of two, 4 or more; any other is left to torch.
    """

    def __init__(
        self,
        capacity: int,
        *,
        fanout: int | None = None,
        device: torch.device | str = "cpu",
        compiled: bool | None = None,
    ) -> None:
        if capacity < 1:
            raise ConfigError(f"capacity = {capacity} must be at least 1.")
        if fanout is not None and fanout < 2:
            raise ConfigError(f"fanout = {fanout} must be at least 2.")
        self.capacity = capacity
        self.device = torch.device(device)
        self.fanout, sizes = level_sizes(capacity, fanout, self.device.type)
        self._flat = resident_zeros([sum(sizes)], device=self.device)
        self._levels = list(self._flat.split(sizes))
        # A group's entries side by side: level i seen as [groups, fanout].
        self._groups = [level.view(-1, self.fanout) for level in self._levels[:-1]]
        self._starts = np.cumsum([0, *sizes])
        self._shift = self.fanout.bit_length() - 1
        suits = self.fanout == 1 << self._shift >= 4
        self.compiled = suits and kernels.choose_loops(self.device, compiled)
        self._sums = _group_sums  # the replay puts a compiled one in its place

    @property
    def levels(self) -> int:
        """Rows that :meth:`sample` wants of its uniform numbers."""
        return len(self._levels)

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, int]:
        """What the loops want to know: the memory, where each level begins, log2 of the fanout."""
        return self._flat.numpy(), self._starts, self._shift

    @property
    def total(self) -> Tensor:
        """Sum of all leaves, 0-d float32."""
        return self._levels[-1].sum()

    @property
    def leaves(self) -> Tensor:
        """The leaf values, float32 [capacity]; a view, not to be written to."""
        return self._levels[0][: self.capacity]

    def get(self, index: Tensor) -> Tensor:
        """Values of the leaves at ``index`` (int64 [B]), float32 [B]."""
        return self._levels[0].index_select(0, index)

    def set(self, index: Tensor, value: Tensor) -> None:
        """Write leaves; of duplicates the largest value wins.

        Args:
            index: int64 [B], each in [0, capacity).
            value: float32 [B], 0 or a normal number whose sum stays finite; not checked, for that
                would stall a GPU.
        """
        if self.compiled:
            inside = kernels.set_leaves(
                *self.arrays, self.capacity, to_array(index), to_array(value)
            )
            return self.check_inside(inside, index)
        self._levels[0].scatter_reduce_(0, index, value, "amax", include_self=False)
        for group, above in zip(self._groups, self._levels[1:], strict=True):
            if index.numel() < len(group):
                index, sums = self._sums(group, index, self.fanout)
                above.index_copy_(0, index, sums)
            else:  # cheaper, and a bulk write needs no memory of index.numel() * fanout
                index = index // self.fanout
                above[: len(group)].copy_(group.sum(dim=1))

    def compile_parts(self, compiled: Callable[[Callable[..., Any]], Any]) -> None:
        """Make what is pure in :meth:`set` fast by ``compiled``; for a tree in torch."""
        self._sums = compiled(_group_sums)

    def sample(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Draw leaves; pure in its randomness.

        Args:
            uniform: float32 [levels, B] in [0, 1); row 0 picks in the top level and may be
                stratified, the others must be independent of it.

        Returns:
            The index, int64 [B], and the value, float32 [B], of each leaf drawn. A leaf of value
            0 is never drawn. With total 0 the answer is meaningless.
        """
        if self.compiled:
            drawn = np.empty(uniform.shape[1], np.int64), np.empty(uniform.shape[1], np.float32)
            kernels.draw_leaves(*self.arrays, to_array(uniform), *drawn)
            return torch.from_numpy(drawn[0]), torch.from_numpy(drawn[1])
        uniform = uniform.clamp(max=_ALMOST_ONE)
        index = _pick(self._levels[-1], uniform[0])
        for depth, group in enumerate(reversed(self._groups), start=1):
            inside = _pick(group.index_select(0, index), uniform[depth].unsqueeze(1)).squeeze(1)
            index = index * self.fanout + inside
        return index, self.get(index)

    def check_inside(self, inside: bool, index: Tensor) -> None:
        """Raise IndexError where a loop found, before it wrote, that an index is no leaf's."""
        if not inside:
            raise IndexError(
                f"index has values from {int(index.min())} to {int(index.max())}; leaves are "
                f"numbered from 0 to {self.capacity - 1}."
            )

    def check_valid(self) -> None:
        """Raise AssertionError where a value is not finite and >= 0, or a sum is not its sum.

        Reads the whole tree on the host: for tests and after loading, not for the hot path.
        """
        for depth, level in enumerate(self._levels):
            assert bool(torch.isfinite(level).all()), f"level {depth} holds a non-finite value"
            assert bool((level >= 0).all()), f"level {depth} holds a negative value"
        assert not self._levels[0][self.capacity :].any(), "padding leaves must stay 0"
        for depth, group in enumerate(self._groups):
            exact = group.double().sum(dim=1)
            above = self._levels[depth + 1][: exact.numel()].double()
            assert torch.allclose(above, exact, rtol=1e-5, atol=1e-30), (
                f"level {depth + 1} is not the sum of level {depth}"
            )

    def tensors(self) -> list[Tensor]:
        """What :meth:`set` changes."""
        return list(self._levels)

    def nbytes(self) -> int:
        """Bytes of all levels."""
        return sum(level.numel() * level.element_size() for level in self._levels)

    def state_dict(self) -> dict[str, Any]:
        """Every level: sums written at different times may differ in their last bit."""
        levels = {f"level_{depth}": level for depth, level in enumerate(self._levels)}
        return {"capacity": self.capacity, **levels}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`; CheckpointError where the capacity is another.

        A tree of another fanout (saved on another type of device) is rebuilt from its leaves.
        """
        saved = [state[f"level_{depth}"] for depth in range(len(state) - 1)]
        if state["capacity"] != self.capacity or saved[0].numel() < self.capacity:
            raise CheckpointError(
                f"The saved sum tree has {state['capacity']} leaves, this one {self.capacity}; use "
                f"the replay_capacity it was saved with."
            )
        if [level.shape for level in saved] == [level.shape for level in self._levels]:
            for level, values in zip(self._levels, saved, strict=True):
                level.copy_(values)
        else:
            leaves = saved[0][: self.capacity].to(self.device)
            self.set(torch.arange(self.capacity, device=self.device), leaves)


def to_array(tensor: Tensor) -> np.ndarray:
    """The memory of a CPU tensor in the one layout that the loops are compiled for."""
    return tensor.contiguous().numpy()


def level_sizes(capacity: int, fanout: int | None, device_type: str) -> tuple[int, list[int]]:
    """The fanout chosen and the length of each level, leaves first, each padded to whole groups."""
    if fanout is not None:
        top = fanout
    elif device_type == "cpu":
        fanout, top = _CPU_FANOUT, _CPU_TOP
    else:  # two levels: every extra level is two dependent kernels
        fanout = top = 1 << max(5, math.ceil(math.log2(capacity) / 2))
    sizes = [capacity]
    while sizes[-1] > top:
        groups = -(-sizes[-1] // fanout)
        sizes[-1] = groups * fanout
        sizes.append(groups)
    return fanout, sizes


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
