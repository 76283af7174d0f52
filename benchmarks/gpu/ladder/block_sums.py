"""The sum tree of a GPU, leaves and sums of blocks of them, by three kernels instead of some fifty.

A draw is one launch: a program reads all block sums, picks a block, reads its leaves and picks one.
A write is two: the leaves, then the sums of the blocks touched, anew from their leaves. In torch
operations, which :class:`fastdqn.replay.sum_tree.SumTree` does and which are the oracle here, a
draw takes 26 launches and a write 5, or 23 with the arithmetic of the priorities.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastdqn.replay.sum_tree import SumTree, level_sizes

_BLOCK, _CHUNK = 32, 128


def two_level_fanout(capacity: int) -> int:
    """That of a tree on CUDA, whatever the device."""
    return level_sizes(capacity, None, "cuda")[0]


class BlockSums(SumTree):
    """A sum tree's own memory under kernels; on a CPU as torch does it.

    Args:
        tree: Of two levels where kernels run; both may be used in turns.
        kernels: Whether kernels run; None: on CUDA. On a CPU they need Triton's interpreter.

    Raises:
        ValueError: Where the tree has other than two levels.
    """

    def __init__(self, tree: SumTree, *, kernels: bool | None = None) -> None:
        self.__dict__.update(tree.__dict__)
        self.use_torch()
        self.kernels = self.device.type == "cuda" if kernels is None else kernels
        if self.kernels and self.levels != 2:
            raise ValueError(f"The tree has {self.levels} levels; the kernels are for two.")
        self._largest = torch.zeros((), device=self.device)  # stands in where leaves are written
        self._flag = torch.zeros((), dtype=torch.bool, device=self.device)

    def draw(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Draw leaves by uniform numbers [2, B]; see :meth:`SumTree.sample`. One launch."""
        if not self.kernels:
            return super().draw(uniform)
        from benchmarks.gpu.ladder.block_sums_kernels import draw

        batch = uniform.shape[1]
        leaves, sums = self._levels
        index = torch.empty(batch, dtype=torch.int64, device=self.device)
        value = torch.empty(batch, device=self.device)
        draw[(batch,)](
            leaves, sums, uniform, index, value, batch, len(sums),
            FANOUT=self.fanout, TOP=1 << (len(sums) - 1).bit_length(),
        )  # fmt: skip
        return index, value

    def write(self, index: Tensor, value: Tensor) -> None:
        """Write leaves; see :meth:`SumTree.set`. Two launches."""
        if not self.kernels:
            return super().write(index, value)
        self._write(index, value, self._largest, self._flag, None)

    def set_priorities(
        self,
        index: Tensor,
        priority: Tensor,
        largest: Tensor,
        nonfinite: Tensor,
        *,
        alpha: float,
        epsilon: float,
    ) -> None:
        """What :meth:`fastdqn.replay.buffer.ReplayBuffer.update_priorities` does, in two launches.

        Args:
            index: int64 [B].
            priority: float32 [B], raw.
            largest: float32, 0-d: the largest priority seen; raised.
            nonfinite: bool, 0-d; set where a priority is not finite.
            alpha: Leaf = (priority + epsilon)^alpha.
            epsilon: Added to every priority.
        """
        self._write(index, priority, largest, nonfinite, (alpha, epsilon))

    def _write(
        self,
        index: Tensor,
        value: Tensor,
        largest: Tensor,
        nonfinite: Tensor,
        priorities: tuple[float, float] | None,
    ) -> None:
        from benchmarks.gpu.ladder.block_sums_kernels import add_up, write

        batch = len(index)
        leaves, sums = self._levels
        alpha, epsilon = priorities or (0.0, 0.0)
        chosen = {"BATCH": batch, "PRIORITIES": priorities is not None, "CHUNK": _CHUNK}
        write[(-(-batch // _BLOCK),)](
            leaves, index, value, largest, alpha, epsilon, BLOCK=_BLOCK, **chosen
        )
        add_up[(batch,)](
            leaves, sums, index, value, largest, nonfinite.view(torch.uint8), FANOUT=self.fanout,
            **chosen,
        )  # fmt: skip
