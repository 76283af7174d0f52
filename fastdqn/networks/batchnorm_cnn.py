"""The convolutional network of PyTorch's DQN tutorial (Paszke 2017), with batch normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdqn.config.arguments import check_sizes
from fastdqn.errors import ConfigError
from fastdqn.networks.draws import Randoms
from fastdqn.networks.onednn import Linear
from fastdqn.networks.torso import MakeLayer, Torso, check_size, stack_as_channels

if TYPE_CHECKING:
    from fastdqn.networks.spec import NetworkSpec

CHANNELS = (16, 32, 32)
MIN_SIZE = 29  # the third convolution has something to see


class BatchNormCNN(Torso):
    """Convolutions of 16, 32 and 32 channels, 5 x 5 with stride 2, each with BatchNorm and ReLU.

    Written for screens of 3 x 40 x 90.

    Args:
        channels: Of the observation, stack included.
        height: In pixels, at least 29.
        width: Likewise.
        hidden_sizes: Of ReLU layers between convolutions and head; the tutorial has none.
        linear: Makes these layers.

    Raises:
        ConfigError: Where the frames are too small, or a size is no whole number from 1.
    """

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        hidden_sizes: Sequence[int] = (),
        *,
        linear: MakeLayer = Linear,
    ) -> None:
        super().__init__()
        check_sizes(channels=channels, height=height, width=width)
        for size in hidden_sizes:
            check_sizes(hidden_sizes=size)
        check_size("batchnorm_cnn", MIN_SIZE, height, width, instead="small_cnn")
        plan = pairwise((channels, *CHANNELS))
        self.convs = nn.ModuleList(nn.Conv2d(c, out, 5, stride=2) for c, out in plan)
        self.norms = nn.ModuleList(nn.BatchNorm2d(out) for out in CHANNELS)
        for _ in self.convs:
            height, width = (height - 5) // 2 + 1, (width - 5) // 2 + 1
        sizes = [CHANNELS[-1] * height * width, *hidden_sizes]
        self.hidden = nn.ModuleList(linear(inward, outward) for inward, outward in pairwise(sizes))
        self.body_features, self.features = sizes[0], sizes[-1]

    @classmethod
    def from_spec(cls, spec: NetworkSpec) -> Self:
        """See :meth:`Torso.from_spec`."""
        if spec.beside:
            raise ConfigError(
                "network = 'batchnorm_cnn' takes no vector beside the image; use network = 'auto'."
            )
        return cls(*spec.image_size, spec.torso_sizes, linear=spec.hidden_linear)

    def body(self, observation: Tensor) -> Tensor:
        """[B, S, H, W] or [B, C, H, W] (or [B, S, C, H, W]) to [B, F]."""
        observation = stack_as_channels(observation)
        first = self.convs[0]
        assert isinstance(first, nn.Conv2d)
        x = observation.to(dtype=first.weight.dtype, memory_format=torch.channels_last)
        if observation.dtype == torch.uint8:
            x = x / 255
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x)))
        return x.flatten(1)

    def to_hidden(self, features: Tensor, randoms: Randoms | None = None) -> Tensor:
        """[B, F] to [B, H]; without hidden layers the same."""
        for layer in self.hidden:
            features = F.relu(layer(features, randoms))
        return features
