"""Heads: from a torso's features to the numbers that stand for the value of each action.

Q itself, [B, A], or for a distribution of the return N numbers for each action, [B, A, N]; what
these mean says :mod:`fastdqn.networks.values`.
"""

from __future__ import annotations

from torch import Tensor, nn

from fastdqn.config.arguments import SIZES, check_argument, check_sizes
from fastdqn.config.ranges import Range
from fastdqn.networks.draws import Randoms
from fastdqn.networks.torso import MakeLayer


class LinearHead(nn.Module):
    """One linear layer.

    Args:
        features: Of the torso.
        num_actions: A.
        numbers: N; None: one for each action, without an axis of its own.
        linear: Makes the layer.

    Raises:
        ConfigError: Where a size is no whole number from 1.
    """

    def __init__(
        self,
        features: int,
        num_actions: int,
        numbers: int | None = None,
        linear: MakeLayer = nn.Linear,
    ) -> None:
        super().__init__()
        check_sizes(features=features, num_actions=num_actions)
        self.numbers = check_argument("numbers", numbers, int | None, SIZES)
        self.q = linear(features, num_actions * (numbers or 1))

    def forward(self, features: Tensor, randoms: Randoms | None = None) -> Tensor:
        """[B, features] to [B, A] or [B, A, N]."""
        output = self.q(features) if randoms is None else self.q(features, randoms)
        return output if self.numbers is None else output.unflatten(1, (-1, self.numbers))


class DuelingHead(nn.Module):
    """``Q = V + A - mean_a A`` (Wang 2016, eq. 9); each half of the features feeds one stream.

    Of distributions the streams are joined number by number, logits before their softmax (Hessel
    2018, arXiv 1710.02298, "The Integrated Agent").

    Args:
        features: Of the torso.
        num_actions: A.
        numbers: N; None: one for each action, without an axis of its own.
        linear: Makes the two layers.

    Raises:
        ConfigError: Where a size is no whole number from 1, or ``features`` not from 2.
    """

    def __init__(
        self,
        features: int,
        num_actions: int,
        numbers: int | None = None,
        linear: MakeLayer = nn.Linear,
    ) -> None:
        super().__init__()
        features = check_argument("features", features, int, Range(2, 2**40))  # for each stream
        check_sizes(num_actions=num_actions)
        self.numbers, self.split = (
            check_argument("numbers", numbers, int | None, SIZES),
            features // 2,
        )
        self.value = linear(features // 2, numbers or 1)
        self.advantage = linear(features - features // 2, num_actions * (numbers or 1))

    def forward(self, features: Tensor, randoms: Randoms | None = None) -> Tensor:
        """[B, features] to [B, A] or [B, A, N]."""
        halves = features[:, : self.split], features[:, self.split :]
        if randoms is None:
            value, advantage = self.value(halves[0]), self.advantage(halves[1])
        else:
            value, advantage = self.value(halves[0], randoms), self.advantage(halves[1], randoms)
        if self.numbers is not None:
            value = value.unsqueeze(1)
            advantage = advantage.unflatten(1, (-1, self.numbers))
        return value + advantage - advantage.mean(dim=1, keepdim=True)
