"""Quantile fractions as features (implicit quantile networks, Dabney 2018b, arXiv 1806.06923)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdqn.config.arguments import check_argument, check_sizes
from fastdqn.config.ranges import Range
from fastdqn.networks.onednn import Linear
from fastdqn.networks.values import midpoints


class CosineEmbedding(nn.Module):
    """``relu(W cos(pi i tau) + b)``, i = 1 .. cosines, for each fraction tau (eq. 4).

    The paper counts i from 0, whose cosine is 1 whatever tau is; Dopamine and DQN Zoo count from 1,
    and so does this.

    Args:
        features: F, what the body of the torso makes: the two are multiplied.
        cosines: Of them are made as many features of tau.
        samples: K, fractions to act by.
        cvar: Act by the mean of this lowest share of the return's distribution (CVaR, section 3.2):
            fractions to act by lie in [0, cvar].
        first: The first i.

    Raises:
        ConfigError: Where one is of another type or out of range.
    """

    def __init__(
        self, features: int, cosines: int = 64, samples: int = 32, cvar: float = 1.0, first: int = 1
    ) -> None:
        super().__init__()
        check_sizes(features=features, cosines=cosines, samples=samples)
        cvar = check_argument("cvar", cvar, float, Range(0.0, 1.0, open_low=True))
        self.cosines, self.samples, self.cvar = int(cosines), int(samples), float(cvar)
        self.first = check_argument("first", first, int)
        self.linear = Linear(self.cosines, int(features))

    def to_act_by(self, batch: int, device: torch.device) -> Tensor:
        """Fractions without chance, [batch, K]: midpoints, up to ``cvar``."""
        return (midpoints(self.samples, device) * self.cvar).expand(batch, -1)

    def forward(self, tau: Tensor) -> Tensor:
        """Fractions [B, N] to features [B N, F]."""
        last = self.first + self.cosines
        waves = torch.arange(self.first, last, dtype=tau.dtype, device=tau.device) * math.pi
        cosines = torch.cos(tau.flatten().unsqueeze(1) * waves)
        return F.relu(self.linear(cosines.to(self.linear.weight.dtype)))

    def extra_repr(self) -> str:
        """What makes two of them alike."""
        return (
            f"cosines={self.cosines}, samples={self.samples}, cvar={self.cvar}, first={self.first}"
        )
