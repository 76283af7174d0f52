"""A replay's steps on a CPU, one loop for each: tree, rows and frames in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fastdqn.replay import kernels
from fastdqn.replay.gather_numba import GatherInNumba
from fastdqn.replay.incoming import check_drawable, check_inside
from fastdqn.replay.sum_tree_numba import TreeInNumba
from fastdqn.system.loops import to_array
from fastdqn.types import Batch

if TYPE_CHECKING:
    from fastdqn.replay.buffer import ReplayBuffer


class BufferInNumba:
    """Adds rows, draws, and writes priorities back, by :mod:`fastdqn.replay.kernels`.

    Args:
        replay: Whose arrays are looked up once: nothing of it ever moves.
        tree: Its tree's loops.
        gather: Its ring's.
    """

    def __init__(self, replay: ReplayBuffer, tree: TreeInNumba, gather: GatherInNumba) -> None:
        self._gather = gather
        self._tree = tree.arrays
        self._rows = (*gather.scalars, gather.frames)
        self._priorities = (
            np.float32(replay.priority_epsilon),
            np.float32(replay.alpha),
            replay.max_priority.numpy(),
        )
        self._gamma_powers = replay.gamma_powers.numpy()

    def latest(self, replay: ReplayBuffer) -> Tensor:
        """The newest observation of every env."""
        return replay.ring.stack(replay._newest)

    def all_go_on(self, replay: ReplayBuffer, observation: Tensor) -> bool:
        """Whether a transition from ``observation`` [N, *O] adds one row to every env."""
        _, _, terminations, truncations, _, frames = self._rows
        return bool(
            kernels.all_go_on(
                frames, terminations, truncations, replay.cursor.numpy(), replay._newest.numpy(),
                self._as_frames(replay, observation),
            )
        )  # fmt: skip

    def _as_frames(self, replay: ReplayBuffer, observation: Tensor) -> np.ndarray:
        """[N, size of a frame], of the ring's dtype."""
        dtype = replay.ring.frames.dtype
        frames = observation if observation.dtype == dtype else observation.to(dtype)
        return to_array(frames).reshape(replay.num_envs, -1)

    def add_row(self, replay: ReplayBuffer, row: tuple[Tensor, ...]) -> None:
        """The usual case: one row per env, and at least n before it."""
        observation, action, reward, *flags = row
        *scalars, frames = self._rows
        kernels.add_row(
            *self._tree, replay.rows, replay._stack, replay.n_step,
            replay.prioritized, *self._priorities,
            frames, *scalars, replay.cursor.numpy(), replay._newest.numpy(),
            self._as_frames(replay, observation),
            to_array(action.to(torch.int64)),
            to_array(replay._clipped(reward)),
            *map(to_array, flags),
        )  # fmt: skip

    def sample(self, replay: ReplayBuffer, uniform: Tensor, beta: float | Tensor) -> Batch:
        """All of a draw behind its random numbers, [levels, B]."""
        count = uniform.shape[1]
        # NumPy's arrays are made, and cut, in a third of the time that tensors take.
        index, action = np.empty((2, count), np.int64)
        reward, discount, weight = np.empty((3, count), np.float32)
        frames = self._gather.empty_stacks(2, count)
        drawn = kernels.sample(
            *self._tree, uniform.numpy(), replay.prioritized, float(beta),
            replay.num_envs, self._gamma_powers, self._gather.repeats, *self._rows,
            index, action, reward, discount, weight,
            frames.reshape(2, count, self._gather.stack_size, -1),
        )  # fmt: skip
        check_drawable(drawn)
        fields = (frames[0], action, reward, discount, frames[1], weight, index)
        return Batch(*map(torch.from_numpy, fields))

    def update_priorities(self, replay: ReplayBuffer, index: Tensor, priority: Tensor) -> None:
        """Set priorities; FastDQNError where an index is no row's."""
        inside = kernels.set_priorities(
            *self._tree, replay.capacity, to_array(index), to_array(priority),
            *self._priorities, replay.nonfinite_priority.numpy(),
        )  # fmt: skip
        check_inside(inside, index, replay.capacity)
