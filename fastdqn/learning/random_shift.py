"""Images of a batch, moved by a few pixels: more states than were seen, at no env step.

Yarats 2021 (DrQ, arXiv 2004.13649) with one draw for each observation (K = M = 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastdqn.errors import ConfigError
from fastdqn.types import Batch


class RandomShift:
    """Moves the images of each sample up or down and left or right; 0 pixels leaves them.

    A state and its next state move each by a draw of its own, the frames of one stack together.

    Args:
        pixels: At most so many, each number of pixels as likely as another.
        compiled: Makes a pure function fast.
    """

    def __init__(self, pixels: int, compiled: Callable[[Callable[..., Any]], Any]) -> None:
        self.pixels = pixels
        self._moved: Callable[[Tensor, Tensor], Tensor] = compiled(moved)

    def __bool__(self) -> bool:
        return self.pixels > 0

    def draw(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """Offsets, int64 [B, 2, 2]: of the state and the next state, in rows and columns."""
        size, device = (batch_size, 2, 2), generator.device
        high = self.pixels + 1
        return torch.randint(1 - high, high, size, generator=generator, device=device)

    def __call__(self, batch: Batch, offsets: Tensor) -> Batch:
        """The batch with other images; what it was given stays as it is."""
        return batch._replace(
            observation=self._moved(batch.observation, offsets[:, 0]),
            next_observation=self._moved(batch.next_observation, offsets[:, 1]),
        )


def moved(images: Tensor, offsets: Tensor) -> Tensor:
    """Each image moved, its edge repeated where it leaves a gap.

    Args:
        images: [B, ..., H, W], of any dtype.
        offsets: Int64 [B, 2]: the pixel that comes to lie at row 0, column 0; those in front of the
            edge count as the edge.

    Returns:
        Like ``images``, contiguous.
    """
    (size, *_, height, width), device = images.shape, images.device
    rows = (torch.arange(height, device=device) + offsets[:, :1]).clamp(0, height - 1)
    columns = (torch.arange(width, device=device) + offsets[:, 1:]).clamp(0, width - 1)
    taken = (rows[:, :, None] * width + columns[:, None, :]).view(size, 1, height * width)
    flat = images.reshape(size, -1, height * width)
    return flat.gather(2, taken.expand_as(flat)).view(images.shape)


def check_shift(pixels: int, observation_shape: Sequence[int]) -> None:
    """Refuse to move what is no image, or to move it out of sight.

    Args:
        pixels: At most so many; 0 moves nothing.
        observation_shape: Of one observation, stack included: [S or C, H, W] or [S, C, H, W].

    Raises:
        ConfigError: Where the shape has another rank, or a side is not longer than ``pixels``.
    """
    shape = list(observation_shape)
    if pixels and len(shape) < 3:
        raise ConfigError(
            f"random_shift = {pixels} moves images [C, H, W], not observations of shape {shape}; "
            f"leave it out."
        )
    if pixels and min(shape[-2:]) <= pixels:
        raise ConfigError(
            f"random_shift = {pixels} moves images of {shape[-2]} x {shape[-1]} out of sight; use "
            f"a number from 0 to {min(shape[-2:]) - 1}."
        )
