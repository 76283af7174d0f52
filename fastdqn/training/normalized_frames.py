"""Keeps the statistics by which a network normalises observations up to date."""

from __future__ import annotations

from typing import Self

from torch import nn

from fastdqn.networks.encoder import FrameEncoder
from fastdqn.networks.normalizer import Normalizer
from fastdqn.system.staging import as_tensor
from fastdqn.types import Array, TimeStep


class NormalizedFrames:
    """Shows every frame to the network's normalizer, once, as it arrives.

    Args:
        encoder: Finds the numbers in a frame.
        normalizer: Of the encoder.
    """

    def __init__(self, encoder: FrameEncoder, normalizer: Normalizer) -> None:
        self._encoder, self._normalizer = encoder, normalizer

    @classmethod
    def of(cls, network: nn.Module) -> Self | None:
        """Those of a network; None where it normalises nothing."""
        encoder = getattr(network, "encoder", None)
        if not isinstance(encoder, FrameEncoder) or encoder.normalizer is None:
            return None
        return cls(encoder, encoder.normalizer)

    def add(self, step: TimeStep) -> None:
        """Take in the frames of a step, [N, *O], and those of resets within it."""
        self._show(step.observation, None)
        if step.reset_observation is not None:  # the same frames once more, but where reset
            self._show(step.reset_observation, step.reset)

    def _show(self, frames: Array, counts: Array | None) -> None:
        device = self._normalizer.mean.device
        numbers = self._encoder.numbers(as_tensor(frames).to(device))
        self._normalizer.add(numbers, None if counts is None else as_tensor(counts).to(device))
