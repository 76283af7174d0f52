"""Heads: from a torso's features to what stands for the value of each action."""

from __future__ import annotations

from torch import Tensor, nn


class LinearHead(nn.Module):
    """Q values as one linear layer."""

    def __init__(self, features: int, num_actions: int) -> None:
        super().__init__()
        self.q = nn.Linear(features, num_actions)

    def forward(self, features: Tensor) -> Tensor:
        """[B, features] to [B, A]."""
        return self.q(features)


class DuelingHead(nn.Module):
    """``Q = V + A - mean_a A`` (Wang 2016, eq. 9); each half of the features feeds one stream."""

    def __init__(self, features: int, num_actions: int) -> None:
        super().__init__()
        self.value = nn.Linear(features // 2, 1)
        self.advantage = nn.Linear(features - features // 2, num_actions)

    def forward(self, features: Tensor) -> Tensor:
        """[B, features] to [B, A]."""
        split = self.value.in_features
        value = self.value(features[:, :split])
        advantage = self.advantage(features[:, split:])
        return value + advantage - advantage.mean(dim=1, keepdim=True)
