"""Where a stacked observation has its frames: what to store of it, and how to build it again."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from torch import Tensor

from fastdqn.config.arguments import check_argument
from fastdqn.config.checks import shown
from fastdqn.config.ranges import Range
from fastdqn.errors import ConfigError

_COLOURS = 3


class StackLayout:
    """Frames in one axis of an observation, the oldest first, as ``VecFrameStack`` puts them.

    A frame of one channel has no axis for it.

    Args:
        space: Of the stacked observation of one env.
        frame_stack: S.
        channels_first: The frames lie along the first axis; otherwise along the last.

    Attributes:
        frame_space: Of one frame.

    Raises:
        ConfigError: Where the axis cannot be cut into S equal parts.
    """

    def __init__(self, space: spaces.Box, frame_stack: int, channels_first: bool) -> None:
        self.shape, self.frame_stack, self.first = space.shape, frame_stack, channels_first
        long = space.shape[0 if channels_first else -1] if space.shape else 0
        if long % frame_stack or not long:
            raise ConfigError(
                f"frame_stack = {frame_stack} does not divide the {long} channels of observations "
                f"{space.shape}; use 1, or what they are stacks of."
            )
        self.channels = long // frame_stack
        self.squeezed = self.channels == 1 and len(space.shape) > 1
        newest = self.newest(space.low[None])[0], self.newest(space.high[None])[0]
        self.frame_space = spaces.Box(*newest, dtype=space.dtype.type)  # type: ignore[union-attr]

    @classmethod
    def of_space(
        cls, space: spaces.Space, frame_stack: int | None, channels_order: str | None
    ) -> StackLayout | None:
        """That of a space; None where observations are not stacked.

        Args:
            space: Of one env's observation.
            frame_stack: S; None: guessed from the channels of an image. One is grey, three are a
                colour image, other multiples of three are colour images and any other number is
                grey ones. 1: not stacked.
            channels_order: ``first``, ``last``, or None: by the sizes of an image, else last.

        Raises:
            ConfigError: Where an argument is wrong or does not go with the space.
        """
        check_argument("frame_stack", frame_stack, int | None, Range(1, 64))
        if channels_order not in (None, "first", "last"):
            raise ConfigError(
                f"channels_order = {channels_order!r} must be first or last; leave it out."
            )
        image = isinstance(space, spaces.Box) and is_image_space(space)
        first = channels_order == "first"
        if channels_order is None and image:
            first = cls.axis_of(space) == 0
        if frame_stack is None:
            channels = space.shape[0 if first else -1] if image else 1
            colours = _COLOURS if channels % _COLOURS == 0 else 1
            frame_stack = channels // colours
        if frame_stack == 1:
            return None
        if not isinstance(space, spaces.Box):
            raise ConfigError(
                f"frame_stack = {frame_stack} needs a Box of stacked frames, not {shown(space)}; "
                f"leave it out."
            )
        return cls(space, frame_stack, first)

    @staticmethod
    def axis_of(space: spaces.Space) -> int:
        """Of a space's axes the one along which frames lie, where nobody says otherwise."""
        shape = space.shape or ()
        return (
            0 if is_image_space(space) and is_image_space_channels_first(space) else len(shape) - 1
        )

    def newest(self, observation: Any) -> Any:
        """The newest frame [N, *O] of observations [N, ...], a view of them."""
        if self.squeezed:
            return observation[:, -1] if self.first else observation[..., -1]
        if self.first:
            return observation[:, -self.channels :]
        return observation[..., -self.channels :]

    def older(self, observation: Any) -> Any:
        """All frames but the newest, in the layout of the observation."""
        if self.first:
            return observation[:, : -self.channels]
        return observation[..., : -self.channels]

    def frames(self, observation: Any) -> list[Any]:
        """Every frame of observations, the oldest first, in their layout; views.

        Looked at one by one: an array that is transposed in memory has long runs only in one frame.
        """
        cuts = [slice(i * self.channels, (i + 1) * self.channels) for i in range(self.frame_stack)]
        return [observation[:, cut] if self.first else observation[..., cut] for cut in cuts]

    def repeated(self, observation: Any) -> Any:
        """What :meth:`older` would be with the newest frame in every place; numpy."""
        newest = self.frames(observation)[-1:] * (self.frame_stack - 1)
        return np.concatenate(newest, axis=1 if self.first else -1)

    def split(self, observation: Any) -> Any:
        """Stacks [B, S, *O] of observations [B, ...], numpy or torch."""
        size, stack = len(observation), self.frame_stack
        if self.first:
            channels = () if self.squeezed else (self.channels,)
            return observation.reshape(size, stack, *channels, *self.shape[1:])
        split = observation.reshape(size, *self.shape[:-1], stack, self.channels)
        split = split.movedim(-2, 1) if isinstance(split, Tensor) else np.moveaxis(split, -2, 1)
        return split.reshape(size, stack, *self.frame_space.shape)

    def join(self, stacks: Tensor) -> Tensor:
        """Observations [B, ...] of stacks [B, S, *O]: :meth:`split` undone."""
        if not self.first:
            frames = (*self.shape[:-1], self.channels)
            stacks = stacks.reshape(len(stacks), self.frame_stack, *frames).movedim(1, -2)
        return stacks.reshape(len(stacks), *self.shape)


def check_padding(stack_padding: Any) -> None:
    """Refuse, by a ConfigError, what is no way to fill a stack."""
    if stack_padding not in ("zero", "repeat"):
        raise ConfigError(f"stack_padding = {shown(stack_padding)} must be zero or repeat.")
