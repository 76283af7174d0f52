"""Whether what the envs show is made of numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from fastdqn.system.staging import as_tensor
from fastdqn.types import TimeStep


class FiniteFrames:
    """Whether every observation so far was finite, kept where they arrive; bytes always are."""

    def __init__(self) -> None:
        self._zeros: Tensor | None = None  # [N, *O]: the sum of 0 * x, which NaN and inf spoil

    def add(self, step: TimeStep) -> None:
        """Take in one step: one elementwise operation per array of floats."""
        for array in (step.observation, step.reset_observation):
            if array is None or not (frames := as_tensor(array)).is_floating_point():
                continue
            if self._zeros is None:
                self._zeros = torch.zeros_like(frames)
            self._zeros.add_(frames, alpha=0.0)

    def are_finite(self) -> bool:
        """The answer; waits for the device."""
        return self._zeros is None or bool(torch.isfinite(self._zeros).all())
