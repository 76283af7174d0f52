"""Transitions rebuilt from a ring's rows on a CPU, one loop for each call."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from fastdqn.replay import kernels
from fastdqn.system.loops import to_array


class GatherInNumba:
    """Reads rows by :mod:`fastdqn.replay.kernels`.

    Args:
        frames: [T * N + 1, *O], the last one zero.
        scalars: Flat, [T * N], by name.
        num_envs: N.
        frame_stack: S; None leaves the stack axis out.
        repeats: Whether an episode's first frame stands before it, and not zeros.
    """

    def __init__(
        self,
        frames: Tensor,
        scalars: Mapping[str, Tensor],
        num_envs: int,
        frame_stack: int | None,
        repeats: bool,
    ) -> None:
        self._frames, self._scalars = frames, scalars
        self._num_envs, self.repeats = num_envs, repeats
        self._frame_stack, self.stack_size = frame_stack, frame_stack or 1
        self._shape = ((frame_stack,) if frame_stack else ()) + tuple(frames.shape[1:])
        self._dtype = np.uint8 if frames.dtype == torch.uint8 else np.float32

    @property
    def scalars(self) -> list[np.ndarray]:
        """Flat, in the order in which rows hold them."""
        return [flat.numpy() for flat in self._scalars.values()]

    @property
    def frames(self) -> np.ndarray:
        """[T * N + 1, size of a frame]."""
        return self._frames.view(len(self._frames), -1).numpy()

    def empty_stacks(self, *count: int) -> np.ndarray:
        """Room for that many observations, [*count, S, *O] (or [*count, *O] without a stack)."""
        return np.empty((*count, *self._shape), self._dtype)

    def stack(self, index: Tensor) -> Tensor:
        """As :meth:`fastdqn.replay.frame_ring.FrameRing.stack`."""
        if self._frame_stack is None:
            return self._frames.index_select(0, index)
        rows = np.empty((1, len(index), self.stack_size), np.int64)
        first = self._scalars["first"].numpy()
        kernels.stacks(index.numpy(), first, self._num_envs, self.repeats, rows[0])
        return self._copied(rows)[0]

    def transition(
        self, index: Tensor, n_step: int, gamma_powers: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """As :meth:`fastdqn.replay.frame_ring.FrameRing.transition`."""
        count = len(index)
        action, reward, discount = (np.empty(count, kind) for kind in (np.int64, *[np.float32] * 2))
        rows = np.empty((2, count, self.stack_size), np.int64)
        kernels.transitions(
            to_array(index), self._num_envs, gamma_powers.numpy(), self.repeats,
            *self.scalars, action, reward, discount, rows,
        )  # fmt: skip
        observation, next_observation = self._copied(rows)
        scalars = map(torch.from_numpy, (action, reward, discount))
        return observation, *scalars, next_observation

    def _copied(self, rows: np.ndarray) -> Tensor:
        """The frames at ``rows`` [H, B, S]; without a stack S is 1 and left out."""
        stacks = self.empty_stacks(*rows.shape[:2])
        kernels.copy_frames(self.frames, rows, stacks.reshape(*rows.shape, self.frames.shape[1]))
        return torch.from_numpy(stacks)
