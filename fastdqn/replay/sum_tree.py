"""A wide sum tree: draws leaves in proportion to their values, in a handful of batched operations.

Level 0 holds the leaves; each entry of a higher level is the sum of ``fanout`` entries below. The
top level is short enough to be searched as one cumulative sum, so a tree of 2^20 leaves has three
levels on a CPU (1024, 32, 32) and two on a GPU (1024, 1024) instead of twenty.

Sums are recomputed from the entries below, never changed by a difference: repeated writes are
idempotent, duplicates are harmless and nothing drifts. Each level has a uniform number of its own:
one float32 number over 2^20 leaves leaves 8 to 16 values per leaf, a bias of up to 10 %.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fastdqn.config.arguments import check_argument
from fastdqn.config.ranges import Range
from fastdqn.errors import CheckpointError, FastDQNError
from fastdqn.replay.incoming import check_index, check_uniform, check_values
from fastdqn.replay.pages import resident_zeros
from fastdqn.replay.refilled import copies, refilled
from fastdqn.replay.sum_tree_torch import TreeInTorch
from fastdqn.system import loops
from fastdqn.system.devices import resolve_device

if TYPE_CHECKING:
    from fastdqn.replay.sum_tree_numba import TreeInNumba

_CPU_FANOUT, _CPU_TOP = 32, 1024  # the fastest of the shapes measured on a CPU


class SumTree:
    """Leaves with values >= 0, drawn with probability ``value / total``.

    Args:
        capacity: Number of leaves, >= 1; all start at 0.
        fanout: Entries summed into one; None chooses for the device.
        device: Where the levels live.
        compiled: Whether Numba's loops do the work on a CPU; None: where it is installed. They
            want a fanout that is a power of two, 4 or more; any other is left to torch.

    Raises:
        ConfigError: Where an argument is out of its range, or the device does not exist here.
    """

    def __init__(
        self,
        capacity: int,
        *,
        fanout: int | None = None,
        device: torch.device | str = "cpu",
        compiled: bool | None = None,
    ) -> None:
        capacity = check_argument("capacity", capacity, int, Range(1, 2**40))
        check_argument("fanout", fanout, int | None, Range(2, 2**20))
        self.capacity = capacity
        self.device = resolve_device(device)
        self.fanout, sizes = level_sizes(capacity, fanout, self.device.type)
        self._flat = resident_zeros([sum(sizes)], device=self.device)
        self._levels = list(self._flat.split(sizes))
        self.invalid = torch.zeros((), dtype=torch.bool, device=self.device)
        """Whether :meth:`set` was given, on a GPU, what it had to leave out."""
        self.in_numba: TreeInNumba | None = None
        """The loops that do the work; None: torch does it."""
        self._way: TreeInTorch | TreeInNumba = TreeInTorch(self._levels, self.fanout)
        if _suits_loops(self.fanout) and loops.choose_loops(self.device, compiled):
            from fastdqn.replay.sum_tree_numba import TreeInNumba  # where it is first needed

            self._way = self.in_numba = TreeInNumba(self._flat, sizes, self.fanout, capacity)

    def use_torch(self) -> None:
        """Let torch do the work from now on, on the same memory."""
        self.in_numba, self._way = None, TreeInTorch(self._levels, self.fanout)

    @property
    def compiled(self) -> bool:
        """Whether Numba's loops do the work."""
        return self.in_numba is not None

    @property
    def levels(self) -> int:
        """Rows that :meth:`sample` wants of its uniform numbers."""
        return len(self._levels)

    @property
    def total(self) -> Tensor:
        """Sum of all leaves, 0-d float32."""
        return self._levels[-1].sum()

    @property
    def leaves(self) -> Tensor:
        """The leaf values, float32 [capacity]; a view, not to be written to."""
        return self._levels[0][: self.capacity]

    def get(self, index: Tensor) -> Tensor:
        """Values of the leaves at ``index`` (int64 [B]), float32 [B].

        Args:
            index: int64 [B].

        Raises:
            FastDQNError: Where an index is none, or on a CPU outside of the tree.
        """
        check_index(index, self.capacity, self.device)
        return self.read(index)

    def set(self, index: Tensor, value: Tensor) -> None:
        """Write leaves; of duplicates the largest value wins.

        Args:
            index: int64 [B], each in [0, capacity).
            value: float32 [B], 0 or a normal number whose sum stays finite.

        Raises:
            FastDQNError: Where shapes, dtypes or devices differ, and on a CPU where an index is
                outside of the tree or a value is negative or not finite: nothing is written then. A
                GPU leaves such leaves as they are and raises ``invalid``, which
                :meth:`check_valid` reports.
        """
        check_index(index, self.capacity, self.device)
        check_values("value", value, index, self.device)
        value = value.detach().to(torch.float32)
        good = (value >= 0) & (value < math.inf)
        if self.device.type == "cpu":
            if not bool(good.all()):
                raise FastDQNError(
                    f"value holds {float(value[~good][0])}; leaves are finite numbers from 0 on."
                )
        else:
            inside = (index >= 0) & (index < self.capacity)
            good &= inside
            self.invalid.logical_or_(~good.all())
            index = torch.where(inside, index, 0)
            value = torch.where(good, value, self.read(index))
        self.write(index, value)

    def read(self, index: Tensor) -> Tensor:
        """As :meth:`get`, unchecked.

        Args:
            index: int64 [B].
        """
        return self._levels[0].index_select(0, index)

    def write(self, index: Tensor, value: Tensor) -> None:
        """As :meth:`set`, unchecked: for what can be no other way, and within a CUDA graph.

        Args:
            index: int64 [B].
            value: float32 [B], 0 or more.
        """
        self._way.set(index, value)

    def compile_parts(self, compiled: Callable[[Callable[..., Any]], Any]) -> None:
        """Make what is pure in :meth:`set` fast by ``compiled``, where torch does it.

        Args:
            compiled: Takes a function and returns it compiled.
        """
        self._way.compile_parts(compiled)

    def sample(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Draw leaves; pure in its randomness.

        Args:
            uniform: float32 [levels, B] in [0, 1); row 0 picks in the top level and may be
                stratified, the others must be independent of it.

        Returns:
            The index, int64 [B], and the value, float32 [B], of each leaf drawn. A leaf of value
            0 is never drawn. With total 0 the answer is meaningless.

        Raises:
            FastDQNError: Where ``uniform`` is no such tensor.
        """
        check_uniform(uniform, self.levels, self.device)
        return self._way.sample(uniform)

    def draw(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`sample`, unchecked.

        Args:
            uniform: float32 [levels, B] in [0, 1).
        """
        return self._way.sample(uniform)

    def check_valid(self) -> None:
        """Read the whole tree on the host: for tests and after loading, not for the hot path.

        Raises:
            AssertionError: Where a value is not finite and >= 0, or a sum is not its sum.
            FastDQNError: Where :meth:`set` had to leave something out.
        """
        if bool(self.invalid):
            raise FastDQNError(
                f"SumTree.set was given an index outside of 0 to {self.capacity - 1}, or a value "
                f"that is negative or not finite; it left those leaves as they were."
            )
        for depth, level in enumerate(self._levels):
            assert bool(torch.isfinite(level).all()), f"level {depth} holds a non-finite value"
            assert bool((level >= 0).all()), f"level {depth} holds a negative value"
        assert not self._levels[0][self.capacity :].any(), "padding leaves must stay 0"
        for depth, level in enumerate(self._levels[:-1]):
            exact = level.view(-1, self.fanout).double().sum(dim=1)
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

    def __deepcopy__(self, memo: dict[int, Any]) -> SumTree:
        """A tree with memory of its own, which whatever is copied with it goes on sharing."""
        other = memo[id(self)] = object.__new__(type(self))
        vars(other).update(copy.deepcopy(vars(self), memo))
        return other

    def __reduce__(self) -> tuple[Any, ...]:
        """For a pickle, which would part what shares memory: made anew, then filled."""
        compiled = None if self.compiled else False
        options = {"fanout": self.fanout, "device": self.device, "compiled": compiled}
        return refilled, (type(self), (self.capacity,), options, copies(self.state_dict()))

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
            self.write(torch.arange(self.capacity, device=self.device), leaves)


def _suits_loops(fanout: int) -> bool:
    """Whether Numba's loops can do with this fanout."""
    return fanout == 1 << (fanout.bit_length() - 1) >= 4


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
