"""Rows in a ring, every frame stored once; stacks are rebuilt when they are read.

A row is an observation and what led to it: ``action, reward, terminated, truncated``; ``first``
says it came from a reset. Transition t of an env is made of its rows t and t+1. Row t of env e is
kept in slot ``t mod T``; its flat index is ``slot * N + e``, so "k rows later" is ``+ k N`` modulo
``T N`` whatever the env.

Storing both stacks of a transition would take 56 GB for a million Atari steps; this takes 7.06 GB.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from tensordict import TensorDict
from torch import Tensor

from fastdqn.errors import CheckpointError
from fastdqn.replay import kernels
from fastdqn.replay.pages import resident_zeros
from fastdqn.replay.returns import n_step_return
from fastdqn.types import StackPadding

# What a row holds beside its frame, and at which byte. They lie side by side, for rows are drawn
# at random and what lies together comes from memory together.
_SCALARS = {
    "action": (torch.int64, 0),
    "reward": (torch.float32, 8),
    "terminated": (torch.bool, 12),
    "truncated": (torch.bool, 13),
    "first": (torch.bool, 14),
}
_SCALAR_BYTES = 16  # one of them unused, so that every row starts on a multiple of 16


class FrameRing:
    """Storage [T, N] of rows and the gather that rebuilds transitions from it.

    Args:
        rows: T, rows per env.
        num_envs: N.
        observation_space: Of one frame; uint8 is stored as it is, anything else as float32.
        frame_stack: S; None leaves the stack axis out.
        stack_padding: What stands before an episode's first frame: zeros, as in ALE's vector env,
            or that first frame again, as in Gymnasium's FrameStackObservation by default.
        device: Where the rows live.
        compiled: Whether Numba's loops do the work on a CPU; None: where it is installed.
    """

    def __init__(
        self,
        rows: int,
        num_envs: int,
        observation_space: Box,
        *,
        frame_stack: int | None = None,
        stack_padding: StackPadding = "zero",
        device: torch.device | str = "cpu",
        compiled: bool | None = None,
    ) -> None:
        self.rows, self.num_envs = rows, num_envs
        self.frame_stack = frame_stack
        self.stack_padding = stack_padding
        self.repeats = stack_padding == "repeat"
        self.device = torch.device(device)
        frame_shape = observation_space.shape
        self.size = rows * num_envs
        # One frame more than there are rows: it stays zero and stands for what precedes an episode.
        self._frames = resident_zeros(
            (self.size + 1, *frame_shape), dtype=frame_dtype(observation_space), device=self.device
        )
        self._scalars = resident_zeros(
            (rows, num_envs, _SCALAR_BYTES), dtype=torch.uint8, device=self.device
        )
        scalars = {
            name: self._scalars.view(dtype)[..., byte // dtype.itemsize]
            for name, (dtype, byte) in _SCALARS.items()
        }
        self.storage = TensorDict(
            {"observation": self._frames[:-1].view(rows, num_envs, *frame_shape), **scalars},
            batch_size=[rows, num_envs],
            device=self.device,
        )
        # Flat views, looked up once: indexing a TensorDict costs five times the gather itself.
        self._flat = {name: self.storage.get(name).view(-1) for name in _SCALARS}
        stack = frame_stack or 1
        self._ages = torch.arange(stack - 1, -1, -1, device=self.device)  # oldest frame first
        self._ages_before = torch.arange(stack - 1, device=self.device)  # 0 .. S-2
        self.compiled = kernels.choose_loops(self.device, compiled)
        self._stack_shape = ((frame_stack,) if frame_stack else ()) + tuple(frame_shape)
        self._host_dtype = np.uint8 if self._frames.dtype == torch.uint8 else np.float32

    @property
    def scalars(self) -> list[np.ndarray]:
        """Flat, in the order of ``_SCALARS``, for the loops."""
        return [flat.numpy() for flat in self._flat.values()]

    @property
    def frames(self) -> np.ndarray:
        """[T * N + 1, size of a frame], the last one zero, for the loops."""
        return self._frames.view(self.size + 1, -1).numpy()

    def nbytes(self) -> int:
        """Bytes of the storage, the zero frame included."""
        return self._frames.nbytes + self._scalars.nbytes

    def write(
        self,
        index: Tensor,
        observation: Tensor,
        action: Tensor,
        reward: Tensor,
        terminated: Tensor,
        truncated: Tensor,
        first: Tensor,
    ) -> None:
        """Write one row per index (int64 [B], distinct); a ``first`` row keeps no scalars."""
        scalars = self.kept(action, reward, terminated, truncated, first)
        self.store(index, observation, scalars)

    @staticmethod
    def kept(
        action: Tensor, reward: Tensor, terminated: Tensor, truncated: Tensor, first: Tensor
    ) -> tuple[Tensor, ...]:
        """What rows hold beside their frames, in the order of ``_SCALARS``; pure."""
        keep = ~first
        return (
            action.to(torch.int64) * keep,
            torch.where(keep, reward.to(torch.float32), 0.0),
            terminated & keep,
            truncated & keep,
            first,
        )

    def store(self, index: Tensor, observation: Tensor, scalars: Sequence[Tensor]) -> None:
        """Write rows as they are to be held."""
        self._frames.index_copy_(0, index, observation.to(self._frames.dtype))
        for flat, values in zip(self._flat.values(), scalars, strict=True):
            flat.index_copy_(0, index, values)

    def write_first(self, index: Tensor, observation: Tensor) -> None:
        """Write rows that came from a reset."""
        self._frames.index_copy_(0, index, observation.to(self._frames.dtype))
        for name, flat in self._flat.items():
            flat.index_fill_(0, index, name == "first")

    def later(self, index: Tensor, steps: int | Tensor) -> Tensor:
        """Flat index of the row ``steps`` later (earlier if negative) in the same column."""
        return (index + steps * self.num_envs) % self.size

    def is_first(self, index: Tensor) -> Tensor:
        """Whether the rows came from a reset, bool like ``index``."""
        return self._flat["first"].index_select(0, index.reshape(-1)).view(index.shape)

    def stack(self, index: Tensor) -> Tensor:
        """The observation at each row, [B, S, *O] (or [B, *O] without a stack)."""
        if self.frame_stack is None:
            return self._frames.index_select(0, index)
        if self.compiled:
            rows = np.empty((1, len(index), self.frame_stack), np.int64)
            first = self._flat["first"].numpy()
            kernels.stacks(index.numpy(), first, self.num_envs, self.repeats, rows[0])
            return self._gather_in_loops(rows)[0]
        return self._gather(self._stack_index(index, self._age(index)))

    def transition(
        self, index: Tensor, n_step: int, gamma_powers: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Transitions that start at the rows ``index`` (int64 [B]).

        Returns:
            observation, action, reward, discount, next_observation as in
            :class:`fastdqn.types.Batch`.
        """
        if self.compiled:
            return self._transition_in_loops(index, gamma_powers)
        following = self.later(index, 1)
        action = self._flat["action"].index_select(0, following)
        if n_step == 1:
            window = following.unsqueeze(1)
        else:
            offsets = torch.arange(1, n_step + 1, device=self.device)
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
        if self.frame_stack is None:
            observation = self._frames.index_select(0, index)
            return observation, action, reward, discount, self._frames.index_select(0, last)
        age = self._age(index)
        # No reset lies between the two rows, so s' has as many steps more behind it.
        both = torch.stack((self._stack_index(index, age), self._stack_index(last, age + steps)))
        observation, next_observation = self._gather(both)
        return observation, action, reward, discount, next_observation

    def _transition_in_loops(
        self, index: Tensor, gamma_powers: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        count, stack = len(index), self.frame_stack or 1
        action, reward, discount = (np.empty(count, kind) for kind in (np.int64, *[np.float32] * 2))
        rows = np.empty((2, count, stack), np.int64)
        kernels.transitions(
            index.contiguous().numpy(), self.num_envs, gamma_powers.numpy(), self.repeats,
            *self.scalars, action, reward, discount, rows,
        )  # fmt: skip
        observation, next_observation = self._gather_in_loops(rows)
        scalars = map(torch.from_numpy, (action, reward, discount))
        return observation, *scalars, next_observation

    def _window(self, name: str, window: Tensor) -> Tensor:
        return self._flat[name].index_select(0, window.view(-1)).view(window.shape)

    def _age(self, index: Tensor) -> Tensor:
        """Steps since the episode's first row, at most S - 1: how much of a stack is its own."""
        first = self.is_first(self.later(index.unsqueeze(1), -self._ages_before))
        return (first.to(torch.int32).cumsum(dim=1) == 0).sum(dim=1)

    def _stack_index(self, index: Tensor, age: Tensor) -> Tensor:
        """Flat index of each frame of each stack, [B, S], oldest first."""
        index, age = index.unsqueeze(1), age.unsqueeze(1)
        if self.repeats:
            return self.later(index, -torch.minimum(self._ages, age))
        return torch.where(self._ages <= age, self.later(index, -self._ages), self.size)

    def _gather(self, index: Tensor) -> Tensor:
        frames = self._frames.index_select(0, index.reshape(-1))
        return frames.view(*index.shape, *self._frames.shape[1:])

    def _gather_in_loops(self, rows: np.ndarray) -> Tensor:
        """The frames at ``rows`` [H, B, S]; without a stack S is 1 and left out."""
        stacks = self.empty_stacks(*rows.shape[:2])
        kernels.copy_frames(self.frames, rows, stacks.reshape(*rows.shape, -1))
        return torch.from_numpy(stacks)

    def empty_stacks(self, *count: int) -> np.ndarray:
        """Room for that many observations, [*count, S, *O] (or [*count, *O] without a stack)."""
        return np.empty((*count, *self._stack_shape), self._host_dtype)

    def state_dict(self) -> dict[str, Any]:
        """Every row."""
        return {"observation": self._frames[:-1], **self._flat}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`; CheckpointError where the shape is another."""
        own = self.state_dict()
        for name, tensor in own.items():
            if name not in state or state[name].shape != tensor.shape:
                saved = list(state[name].shape) if name in state else "nothing"
                raise CheckpointError(
                    f"The saved replay holds {saved} for {name!r} where this run has "
                    f"{list(tensor.shape)}; use the configuration it was saved with."
                )
        for name, tensor in own.items():
            tensor.copy_(state[name])


def frame_dtype(space: Box) -> torch.dtype:
    """What frames of the space are stored as: uint8 as it is, all else float32."""
    return torch.uint8 if space.dtype == np.uint8 else torch.float32


def row_bytes(space: Box) -> dict[str, int]:
    """Bytes of one row, by part."""
    frame = math.prod(space.shape) * torch.empty((), dtype=frame_dtype(space)).element_size()
    return {"frames": frame, "scalars": _SCALAR_BYTES}
