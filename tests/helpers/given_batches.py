"""Batches made of a seed, and a replay that gives one after another."""

import torch

from fastdqn.types import Batch

B = 6


def batch(seed=0, image=False):
    """Of vectors of 4 numbers, or of two frames of 25 x 25; 3 actions."""
    g = torch.Generator().manual_seed(seed)
    if image:
        frames = torch.randint(0, 256, (2, B, 2, 25, 25), dtype=torch.uint8, generator=g)
    else:
        frames = torch.randn((2, B, 4), generator=g)
    action = torch.randint(0, 3, (B,), generator=g)
    discount = torch.where(torch.rand(B, generator=g) < 0.3, 0.0, 0.99)
    reward, weight = torch.randn(B, generator=g), torch.rand(B, generator=g)
    return Batch(frames[0], action, reward, discount, frames[1], weight, torch.arange(B))


class Given:
    """A uniform replay that draws one batch after another."""

    prioritized = False

    def __init__(self, image=False):
        self.generator, self.seed, self.image = torch.Generator(), 0, image

    def sample(self, size, *, beta):
        first, self.seed = self.seed, self.seed + size // B
        drawn = [batch(seed, self.image) for seed in range(first, self.seed)]
        return Batch(*(torch.cat(fields) for fields in zip(*drawn, strict=True)))
