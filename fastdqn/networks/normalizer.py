"""Observations shifted and scaled by their running mean and deviation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_CLIP = 10.0  # deviations
_LEAST = 1e-4  # deviation: what never changes stays 0 instead of being blown up


class Normalizer(nn.Module):
    """``(x - mean) / deviation``, clipped to +-10, over all that it was shown.

    The statistics are exact, not a moving average, and belong to the network: they are saved with
    it and act with it. Copies of the network share them, so that a target network sees what the
    online one sees. Counted in float64, for float32 stops to count at 16,777,216.

    Args:
        size: Numbers in a vector.
    """

    mean: Tensor
    scale: Tensor
    count: Tensor
    squares: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("scale", torch.ones(size))

    @torch.no_grad()
    def add(self, x: Tensor, counts: Tensor | None = None) -> None:
        """Take in vectors [N, size] (Chan 1983: means and squares of two parts, joined).

        Args:
            x: The vectors.
            counts: bool [N], those to take in; None: all. The host need not know how many.
        """
        x = x.double()
        if counts is None:
            more, mean = x.new_tensor(len(x)), x.mean(0)
            squares = (x - mean).square().sum(0)
        else:
            counts = counts.unsqueeze(1)
            more = counts.sum().double()
            mean = torch.where(counts, x, 0.0).sum(0) / more.clamp(min=1)
            squares = torch.where(counts, x - mean, 0.0).square().sum(0)
        count = self.count + more
        share = more / count.clamp(min=1)
        delta = mean - self.mean
        self.squares += squares + delta.square() * (self.count * share)
        self.mean += delta * share
        self.count.copy_(count)
        deviation = (self.squares / count.clamp(min=1)).sqrt()
        self.scale.copy_(torch.where(deviation > _LEAST, 1 / deviation, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        """[..., size] float32, normalised."""
        return ((x - self.mean.float()) * self.scale).clamp(-_CLIP, _CLIP)
