"""Transitions from the ring as the first convolution wants them, in one launch.

The kernel finds the n-step return, cuts the stacks at episode starts, and writes both stacks as
space-to-depth input in the network's precision: 59 launches of torch operations, and the bytes of
the stacks are neither written nor read. In torch, which is the oracle, :class:`FrameRing` gathers
bytes and :func:`benchmarks.gpu.ladder.nature.to_input` rearranges them.

The first convolution itself is cuDNN's; a convolution that reads bytes is not written.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.gpu.ladder.block_sums import BlockSums
from benchmarks.gpu.ladder.nature import BLOCK, to_input
from fastdqn.errors import ConfigError
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.replay.buffer_torch import Strata, importance_weights, stratified
from fastdqn.replay.frame_ring import FrameRing
from fastdqn.types import Batch


class Inputs(NamedTuple):
    """Transitions whose stacks are ready for the first convolution."""

    both: Tensor  # [2 B, 16 S, 21, 21], channels_last: s, then s'; 0..255
    action: Tensor  # [B] int64
    reward: Tensor  # [B] float32
    discount: Tensor  # [B] float32


def gather_inputs(
    ring: FrameRing,
    index: Tensor,
    n_step: int,
    gamma_powers: Tensor,
    dtype: torch.dtype,
    *,
    kernels: bool,
) -> Inputs:
    """The transitions that start at the rows ``index`` (int64 [B]).

    Args:
        ring: Of frames of 84 x 84, uint8, zeros before an episode.
        index: Drawable rows.
        n_step: n.
        gamma_powers: float32 [n + 1].
        dtype: Of the input.
        kernels: Whether the kernel does it; on a CPU it needs Triton's interpreter.
    """
    if not kernels:
        observation, action, reward, discount, following = ring.transition(
            index, n_step, gamma_powers
        )
        both = torch.cat([to_input(x, dtype) for x in (observation, following)])
        return Inputs(both, action, reward, discount)
    from benchmarks.gpu.ladder.fused_gather_kernels import gather

    batch, stack, device = len(index), ring.frame_stack or 1, index.device
    height, width = ring.frames.shape[1:]
    rows, lanes = height // BLOCK, width * BLOCK * stack
    shape = (2 * batch, rows, width // BLOCK, BLOCK * BLOCK * stack)
    inputs = torch.empty(shape, dtype=dtype, device=device)
    action = torch.empty(batch, dtype=torch.int64, device=device)
    reward, discount = (torch.empty(batch, device=device) for _ in range(2))
    flat = ring.scalars
    flags = (flat[name].view(torch.uint8) for name in ("terminated", "truncated", "first"))
    gather[(2 * batch, rows)](
        ring.frames, flat["action"], flat["reward"], *flags, index, gamma_powers,
        inputs, action, reward, discount,
        batch, ring.size, ring.num_envs,
        N_STEP=n_step, STACK=stack, HEIGHT=height, WIDTH=width, SIDE=BLOCK,
        LANES=1 << (lanes - 1).bit_length(),
    )  # fmt: skip
    return Inputs(inputs.permute(0, 3, 1, 2), action, reward, discount)


class KernelReplay(ReplayBuffer):
    """A replay's own memory, drawn from and written back to by kernels; on a CPU by torch.

    Args:
        replay: Prioritized, of images stacked with zeros; both may be used in turns.
        dtype: Of the space-to-depth inputs that batches hold in the place of stacks; None: stacks,
            as of any replay, and of anything.
        kernels: Whether kernels run; None: on CUDA.

    Raises:
        ConfigError: Where the replay is another.
    """

    def __init__(
        self, replay: ReplayBuffer, *, dtype: torch.dtype | None, kernels: bool | None = None
    ) -> None:
        if not replay.prioritized or (dtype is not None and replay.ring.stack_padding != "zero"):
            raise ConfigError("The kernels are for a prioritized replay with zero padding.")
        self.__dict__.update(replay.__dict__)
        self.dtype = dtype
        self.kernels = self.device.type == "cuda" if kernels is None else kernels
        self.tree = BlockSums(replay.tree, kernels=self.kernels)
        self.ring = copy.copy(replay.ring)
        self.strata = Strata(self.tree.levels, self.device)
        self.use_torch()  # in place of what was chosen for the other replay

    @torch.no_grad()
    def sample(self, batch_size: int, *, beta: float | Tensor = 1.0) -> Batch:
        """Draw transitions; see :meth:`ReplayBuffer.sample`.

        With a ``dtype``, ``observation`` holds the inputs of s and then those of s',
        [2 B, 16 S, 21, 21], and ``next_observation`` the latter again, [B, 16 S, 21, 21].
        """
        if self.dtype is None:
            return super().sample(batch_size, beta=beta)
        uniform = stratified(self.uniform(batch_size), self.strata(batch_size))
        index, leaf = self.tree.draw(uniform)
        both, action, reward, discount = gather_inputs(
            self.ring, index, self.n_step, self.gamma_powers, self.dtype, kernels=self.kernels
        )
        weight = importance_weights(leaf, beta)
        return Batch(both, action, reward, discount, both[batch_size:], weight, index)

    def write_priorities(self, index: Tensor, priority: Tensor) -> None:
        """As :meth:`ReplayBuffer.write_priorities`, in two launches."""
        if not self.kernels:
            return super().write_priorities(index, priority)
        assert isinstance(self.tree, BlockSums)
        self.tree.set_priorities(
            index, priority, self.max_priority, self.nonfinite_priority,
            alpha=self.alpha, epsilon=self.priority_epsilon,
        )  # fmt: skip
