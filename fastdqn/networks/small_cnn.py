"""The convolutional network of MinAtar (Young 2019), for images of a few pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdqn.config.arguments import check_sizes
from fastdqn.frame_format import SMALLEST_IMAGE
from fastdqn.networks.draws import Randoms
from fastdqn.networks.onednn import Linear, conv_relu, has_conv_relu
from fastdqn.networks.torso import MakeLayer, Torso, check_beside, check_size, stack_as_channels

if TYPE_CHECKING:
    from fastdqn.networks.spec import NetworkSpec

CHANNELS = 16


class SmallCNN(Torso):
    """One 3 x 3 convolution of 16 channels and one hidden layer, on [B, C, H, W].

    Young and Tian 2019 (arXiv 1903.03176), whose hidden layer has 128 units; bytes become 0..1.

    Args:
        channels: Of the observation, stack included.
        height: In pixels, at least 3.
        width: Likewise.
        hidden: Units of the hidden layer.
        beside: Features of something else that the hidden layer takes behind those of the body.
        linear: Makes the hidden layer.

    Raises:
        ConfigError: Where the frames are too small, or a size is no whole number from 1.
    """

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        hidden: int,
        *,
        beside: int = 0,
        linear: MakeLayer = Linear,
    ) -> None:
        super().__init__()
        check_sizes(channels=channels, height=height, width=width, hidden=hidden)
        check_beside(beside)
        check_size("small_cnn", SMALLEST_IMAGE, height, width, instead="mlp")
        self.conv = nn.Conv2d(channels, CHANNELS, 3)
        self.body_features = CHANNELS * (height - 2) * (width - 2)
        self.hidden = linear(self.body_features + beside, hidden)
        self.features = hidden

    @classmethod
    def from_spec(cls, spec: NetworkSpec) -> Self:
        """See :meth:`Torso.from_spec`."""
        return cls(
            *spec.image_size, spec.hidden_size, beside=spec.beside, linear=spec.hidden_linear
        )

    def body(self, observation: Tensor) -> Tensor:
        """[B, S, H, W] or [B, C, H, W] (or [B, S, C, H, W]) to [B, F]."""
        observation = stack_as_channels(observation)
        weight, bias = self.conv.weight, self.conv.bias
        assert bias is not None
        x = observation.to(dtype=weight.dtype, memory_format=torch.channels_last)
        if observation.dtype == torch.uint8:
            x = x / 255
        if has_conv_relu(x.device.type, weight.dtype):
            return conv_relu(x, weight, bias, (1, 1)).flatten(1)
        return F.relu(self.conv(x)).flatten(1)

    def to_hidden(self, features: Tensor, randoms: Randoms | None = None) -> Tensor:
        """[B, F + beside] to [B, H]."""
        return F.relu(self.hidden(features, randoms))
