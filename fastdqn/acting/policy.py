"""What a trained network does outside of training: frames in, actions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastdqn.acting.exploration import check_chances, epsilon_greedy
from fastdqn.envs import arrays
from fastdqn.envs.reader import ObservationReader
from fastdqn.errors import ConfigError, EnvError
from fastdqn.networks.forward import forward_q
from fastdqn.spaces import Spaces
from fastdqn.system.staging import as_tensor
from fastdqn.types import Array, StackPadding


class Policy:
    """Acts on single frames and keeps the stacks itself.

    Args:
        network: In evaluation mode, float32; maps observations to Q (see fastdqn.networks).
        frame_stack: S; None: observations are used as they come.
        stack_padding: What precedes an episode's first frame, as in training.
        action_start: Added to actions, for spaces that do not start at 0.
        device: Where the network lives.
        autocast: Run the network under autocast to bfloat16.
        seed: Of the exploration.
        lowered: Acts instead of the network: the same with its body in bfloat16.
        spaces: Of the envs it is for: others are refused. They stand for the three arguments about
            stacks and actions, too.
        reader: Makes frames of observations as the envs themselves return them.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        frame_stack: int | None = None,
        stack_padding: StackPadding = "zero",
        action_start: int = 0,
        device: torch.device | str = "cpu",
        autocast: bool = False,
        seed: int = 0,
        lowered: nn.Module | None = None,
        spaces: Spaces | None = None,
        reader: ObservationReader | None = None,
    ) -> None:
        self.network = network
        self.spaces, self.reader = spaces, reader
        if spaces is not None:
            frame_stack, stack_padding = spaces.frame_stack, spaces.stack_padding
            action_start = spaces.action_start
        self._lowered = lowered
        self.frame_stack, self.stack_padding = frame_stack, stack_padding
        self.action_start = action_start
        self.device = torch.device(device)
        self.autocast = autocast
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self._stack: Tensor | None = None

    @property
    def acting_network(self) -> nn.Module:
        """What computes the actions: the network, or its copy in lower precision."""
        return self.network if self._lowered is None else self._lowered

    @torch.no_grad()
    def act(
        self,
        observation: Array | Mapping[str, Any] | Sequence[Any] | int,
        *,
        first: Array | None = None,
        epsilon: float | Tensor = 0.0,
    ) -> Array | np.integer:
        """Actions for N envs, as their action space counts them, or for one.

        Args:
            observation: [N, *O], the newest frame of each env, or what the envs themselves return
                (channels last, a dictionary, integers): with an axis of N in front, or without for
                one env.
            first: bool [N], envs that were just reset: their stacks start anew. None: only where
                the number of envs changed (or at the first call).
            epsilon: Chance of a random action, or one for each env, [N].

        Returns:
            int64 [N], or one where the observation is one; numpy if the observation is numpy, else
            a tensor on the device.

        Raises:
            ConfigError: Where an argument has another shape than the envs or N ask for.
        """
        frames, single = self._frames(observation)
        num = len(frames)
        if first is not None and tuple(np.shape(first)) != (num,):
            raise ConfigError(
                f"first has shape {tuple(np.shape(first))}; use one flag for each of {num} envs."
            )
        if isinstance(epsilon, Tensor):
            check_chances(epsilon, num)
        numpy = not isinstance(frames, Tensor)
        seen = as_tensor(frames).to(self.device)
        seen = seen if seen.dtype == torch.uint8 else seen.float()
        q = forward_q(self.acting_network, self._observe(seen, first), self.autocast)
        uniform = torch.rand((2, q.shape[0]), generator=self.generator, device=self.device)
        actions = epsilon_greedy(q, epsilon, uniform) + self.action_start
        chosen = actions.cpu().numpy() if numpy else actions
        return chosen[0] if single else chosen

    def _frames(self, observation: Any) -> tuple[Array, bool]:
        """Frames [N, *O], and whether the observation was that of one env."""
        shape = None if self.spaces is None else self.spaces.frame_shape
        if isinstance(observation, Array) and self._are_frames(observation.dtype):
            found = tuple(observation.shape)
            if shape is None or found[1:] == shape:
                return observation, False
            if found == shape:
                return observation[None], True
        reader = self.reader
        try:
            if reader is not None:  # which also takes lists, and axes of 1
                return reader.of_caller(observation)
        except EnvError as error:
            if reader is not None and not reader.plain:
                raise ConfigError(f"observation does not fit this policy: {error}") from None
        except TypeError:  # no array at all
            pass
        what = type(observation).__name__
        if isinstance(observation, Array):
            what = f"{tuple(observation.shape)} {observation.dtype}"
        raise ConfigError(
            f"observation has shape {what}, where this policy takes a frame of shape {shape} for "
            f"each of N envs; pass all N as one array."
        )

    def _are_frames(self, dtype: Any) -> bool:
        """Whether arrays of a dtype may be frames already: a reader might make bytes of floats."""
        if self.reader is None or self.spaces is None or self.spaces.frame_dtype is None:
            return True
        return arrays.kind(dtype) == ("uint8" if self.spaces.frame_dtype == "uint8" else "float")

    def reset(self) -> None:
        """Forget the stacks: the next call starts every env anew."""
        self._stack = None

    def _observe(self, frames: Tensor, first: Array | None) -> Tensor:
        """Push frames [N, *O] onto the stacks and return them, [N, S, *O]."""
        if self.frame_stack is None:
            return frames
        if self._stack is None or self._stack.shape[0] != frames.shape[0]:
            self._stack = frames.new_zeros((frames.shape[0], self.frame_stack, *frames.shape[1:]))
            starts = torch.ones(frames.shape[0], dtype=torch.bool, device=self.device)
        elif first is None:
            starts = torch.zeros(frames.shape[0], dtype=torch.bool, device=self.device)
        else:
            starts = as_tensor(first).to(self.device)
        newest = frames.unsqueeze(1)
        padding = torch.zeros_like(newest) if self.stack_padding == "zero" else newest
        shape = (-1, *(1 for _ in self._stack.shape[1:]))
        older = torch.where(starts.view(shape), padding, self._stack[:, 1:])
        self._stack = torch.cat((older, newest), dim=1)
        return self._stack
