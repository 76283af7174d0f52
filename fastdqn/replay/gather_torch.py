"""Transitions rebuilt from a ring's rows in torch: on a GPU, and on a CPU without Numba."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fastdqn.replay.returns import n_step_return


class GatherInTorch:
    """Reads rows in batched operations of fixed shapes.

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
        self._num_envs, self._size = num_envs, len(frames) - 1
        self._frame_stack, self._repeats = frame_stack, repeats
        stack, device = frame_stack or 1, frames.device
        self._ages = torch.arange(stack - 1, -1, -1, device=device)  # oldest frame first
        self._ages_before = torch.arange(stack - 1, device=device)  # 0 .. S-2

    def later(self, index: Tensor, steps: int | Tensor) -> Tensor:
        """Flat index of the row ``steps`` later (earlier if negative) in the same column."""
        return (index + steps * self._num_envs) % self._size

    def is_first(self, index: Tensor) -> Tensor:
        """Whether the rows came from a reset, bool like ``index``."""
        return self._scalars["first"].index_select(0, index.reshape(-1)).view(index.shape)

    def stack(self, index: Tensor) -> Tensor:
        """As :meth:`fastdqn.replay.frame_ring.FrameRing.stack`."""
        if self._frame_stack is None:
            return self._frames.index_select(0, index)
        return self._gather(self._stack_index(index, self._age(index)))

    def transition(
        self, index: Tensor, n_step: int, gamma_powers: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """As :meth:`fastdqn.replay.frame_ring.FrameRing.transition`."""
        following = self.later(index, 1)
        action = self._scalars["action"].index_select(0, following)
        if n_step == 1:
            window = following.unsqueeze(1)
        else:
            offsets = torch.arange(1, n_step + 1, device=index.device)
            window = self.later(index.unsqueeze(1), offsets)
        reward, terminated = self._window("reward", window), self._window("terminated", window)
        # Nothing after step k belongs to the episode if it ended there by a flag or without one.
        end = (
            terminated[:, :-1] | self._window("truncated", window)[:, :-1]
            if n_step > 1
            else terminated[:, :0]
        )
        if n_step > 1:
            end = end | self._window("first", window)[:, 1:]
        reward, discount, steps = n_step_return(reward, terminated, end, gamma_powers)
        last = following if n_step == 1 else self.later(index, steps)
        if self._frame_stack is None:
            observation = self._frames.index_select(0, index)
            return observation, action, reward, discount, self._frames.index_select(0, last)
        age = self._age(index)
        # No reset lies between the two rows, so s' has as many steps more behind it.
        both = torch.stack((self._stack_index(index, age), self._stack_index(last, age + steps)))
        observation, next_observation = self._gather(both)
        return observation, action, reward, discount, next_observation

    def _window(self, name: str, window: Tensor) -> Tensor:
        return self._scalars[name].index_select(0, window.view(-1)).view(window.shape)

    def _age(self, index: Tensor) -> Tensor:
        """Steps since the episode's first row, at most S - 1: how much of a stack is its own."""
        first = self.is_first(self.later(index.unsqueeze(1), -self._ages_before))
        return (first.to(torch.int32).cumsum(dim=1) == 0).sum(dim=1)

    def _stack_index(self, index: Tensor, age: Tensor) -> Tensor:
        """Flat index of each frame of each stack, [B, S], oldest first."""
        index, age = index.unsqueeze(1), age.unsqueeze(1)
        if self._repeats:
            return self.later(index, -torch.minimum(self._ages, age))
        return torch.where(self._ages <= age, self.later(index, -self._ages), self._size)

    def _gather(self, index: Tensor) -> Tensor:
        frames = self._frames.index_select(0, index.reshape(-1))
        return frames.view(*index.shape, *self._frames.shape[1:])
