"""Whether what the envs show is made of numbers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fastdqn.frame_format import FrameFormat
from fastdqn.networks.encoder import as_floats
from fastdqn.system.staging import as_tensor
from fastdqn.types import TimeStep


class FiniteFrames:
    """Whether every observation so far was finite, kept where they arrive; bytes always are.

    Args:
        format: What frames are: behind the image of a row of bytes are floats, as bytes.
    """

    def __init__(self, format: FrameFormat | None = None) -> None:
        packed = None if format is None else format.packed_image
        self._pixels = None if packed is None else math.prod(packed)
        self._zeros: Tensor | None = None  # [N, *O]: the sum of 0 * x, which NaN and inf spoil

    def add(self, step: TimeStep) -> None:
        """Take in one step: one elementwise operation per array of floats."""
        for array in (step.observation, step.reset_observation):
            if array is None:
                continue
            frames = as_tensor(array)
            if not frames.is_floating_point():
                if self._pixels is None:
                    continue
                frames = as_floats(frames[:, self._pixels :])
            if self._zeros is None:
                self._zeros = torch.zeros_like(frames)
            self._zeros.add_(frames, alpha=0.0)

    def are_finite(self) -> bool:
        """The answer; waits for the device."""
        return self._zeros is None or bool(torch.isfinite(self._zeros).all())
