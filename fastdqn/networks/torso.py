"""What every torso is: a body, and one hidden layer or more between it and the head."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from torch import Tensor, nn

from fastdqn.config.arguments import check_argument
from fastdqn.config.ranges import Range
from fastdqn.errors import ConfigError
from fastdqn.networks.draws import Randoms

if TYPE_CHECKING:
    from fastdqn.networks.spec import NetworkSpec

MakeLayer = Callable[[int, int], nn.Linear]
"""From the numbers in a row to those made of it: a linear layer."""


class Torso(nn.Module):
    """Makes the features that a head reads: ``forward`` is ``to_hidden`` of ``body``.

    In two parts because some networks work between them: implicit quantiles multiply what the body
    makes (Dabney 2018, arXiv 1806.06923), noisy networks replace the layers after it (Fortunato
    2018, arXiv 1706.10295). A subclass may compute ``forward`` faster than part by part.

    Attributes:
        body_features: F, what ``body`` makes.
        features: H, what ``to_hidden`` and ``forward`` make.
    """

    body_features: int
    features: int

    @classmethod
    def from_spec(cls, spec: NetworkSpec) -> Self:
        """The torso that a description asks for.

        Raises:
            ConfigError: Where it does not fit the observations.
        """
        raise NotImplementedError

    def body(self, observation: Tensor) -> Tensor:
        """Observations [B, ...], uint8 or floats, to [B, F]; bytes become 0..1."""
        raise NotImplementedError

    def to_hidden(self, features: Tensor, randoms: Randoms | None = None) -> Tensor:
        """What the body made, [B, F], to [B, H]; with the noise of the layers, if they have any."""
        raise NotImplementedError

    def forward(self, observation: Tensor, randoms: Randoms | None = None) -> Tensor:
        """Observations [B, ...], uint8 or floats, to [B, H]."""
        return self.to_hidden(self.body(observation), randoms)


def check_beside(beside: int) -> None:
    """Refuse, by a ConfigError, what is no number of features."""
    check_argument("beside", beside, int, Range(0, 2**31))


def check_size(network: str, smallest: int, height: int, width: int, *, instead: str) -> None:
    """Refuse frames that a network's convolutions see nothing of, by a ConfigError.

    Args:
        network: Its name in a configuration.
        smallest: Pixels that each side needs.
        height: Of the frames.
        width: Likewise.
        instead: The network to propose.
    """
    if min(height, width) < smallest:
        raise ConfigError(
            f"network = {network!r} needs frames of at least {smallest} x {smallest}, not "
            f"{height} x {width}; use network = {instead!r}."
        )


def stack_as_channels(observation: Tensor) -> Tensor:
    """[B, S, C, H, W] to [B, S C, H, W]; what has four dimensions stays as it is."""
    return observation.flatten(1, 2) if observation.dim() == 5 else observation
