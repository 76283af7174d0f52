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
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from fastdqn.errors import CheckpointError
from fastdqn.replay.gather_torch import GatherInTorch
from fastdqn.replay.pages import resident_zeros
from fastdqn.system import loops
from fastdqn.types import StackPadding

if TYPE_CHECKING:
    from tensordict import TensorDict

    from fastdqn.replay.gather_numba import GatherInNumba

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
        self._flat = {
            name: self._scalars.view(dtype)[..., byte // dtype.itemsize].view(-1)
            for name, (dtype, byte) in _SCALARS.items()
        }
        self._storage: TensorDict | None = None
        layout = (self._frames, self._flat, num_envs, frame_stack, self.repeats)
        self._torch = GatherInTorch(*layout)
        self._way: GatherInTorch | GatherInNumba = self._torch
        self.in_numba: GatherInNumba | None = None
        """The loops that do the work; None: torch does it."""
        if loops.choose_loops(self.device, compiled):
            from fastdqn.replay.gather_numba import GatherInNumba  # Numba, which takes 0.2 s

            self._way = self.in_numba = GatherInNumba(*layout)

    def use_torch(self) -> None:
        """Let torch do the work from now on, on the same memory."""
        self._way, self.in_numba = self._torch, None

    @property
    def storage(self) -> TensorDict:
        """The rows as a TensorDict [T, N]: views, not to be written to.

        Made when it is asked for, for tensordict takes as long to import as torch.
        """
        if self._storage is None:
            from tensordict import TensorDict

            shape = (self.rows, self.num_envs)
            rows = {"observation": self._frames[:-1], **self._flat}
            self._storage = TensorDict(
                {name: flat.view(*shape, *flat.shape[1:]) for name, flat in rows.items()},
                batch_size=shape,
                device=self.device,
            )
        return self._storage

    @property
    def frames(self) -> Tensor:
        """[T * N + 1, *O]; the last one is zero and not to be written to."""
        return self._frames

    @property
    def scalars(self) -> dict[str, Tensor]:
        """Flat, [T * N], by name."""
        return self._flat

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
        return self._torch.later(index, steps)

    def is_first(self, index: Tensor) -> Tensor:
        """Whether the rows came from a reset, bool like ``index``."""
        return self._torch.is_first(index)

    def stack(self, index: Tensor) -> Tensor:
        """The observation at each row, [B, S, *O] (or [B, *O] without a stack)."""
        return self._way.stack(index)

    def transition(
        self, index: Tensor, n_step: int, gamma_powers: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Transitions that start at the rows ``index`` (int64 [B]).

        Returns:
            observation, action, reward, discount, next_observation as in
            :class:`fastdqn.Batch`.
        """
        return self._way.transition(index, n_step, gamma_powers)

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
