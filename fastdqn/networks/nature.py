"""The convolutional network of the Nature paper (Mnih 2015)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdqn.networks.onednn import Linear, has_conv_relu, nature_features
from fastdqn.networks.torso import Torso, check_size, stack_as_channels

if TYPE_CHECKING:
    from fastdqn.networks.spec import NetworkSpec

MIN_SIZE = 36  # the third convolution has something to see


class NatureCNN(Torso):
    """Three convolutions and one hidden layer (Mnih 2015), on [B, S, H, W]; bytes become 0..1.

    Args:
        channels: Of the observation, stack included.
        height: In pixels, at least 36.
        width: Likewise.
        hidden: Units of the hidden layer; the paper has 512.
        beside: Features of something else that the hidden layer takes behind those of the body.

    Raises:
        ConfigError: Where the frames are too small.
    """

    def __init__(
        self, channels: int, height: int, width: int, hidden: int, *, beside: int = 0
    ) -> None:
        super().__init__()
        check_size("nature", MIN_SIZE, height, width, instead="small_cnn")
        self.conv1 = nn.Conv2d(channels, 32, 8, stride=4)
        self.conv2 = nn.Conv2d(32, 64, 4, stride=2)
        self.conv3 = nn.Conv2d(64, 64, 3)
        for kernel, stride in ((8, 4), (4, 2), (3, 1)):
            height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
        self.body_features = 64 * height * width
        self.hidden = Linear(self.body_features + beside, hidden)
        self.features = hidden

    @classmethod
    def from_spec(cls, spec: NetworkSpec) -> Self:
        """See :meth:`Torso.from_spec`."""
        return cls(*spec.image_size, spec.hidden_size, beside=spec.beside)

    def forward(self, observation: Tensor) -> Tensor:
        """[B, S, H, W] (or [B, S, C, H, W]) to [B, features]."""
        observation = stack_as_channels(observation)
        if has_conv_relu(observation.device.type, self.conv1.weight.dtype):
            return nature_features(self, observation)
        return self.to_hidden(self.body(observation))

    def body(self, observation: Tensor) -> Tensor:
        """[B, S, H, W] (or [B, S, C, H, W]) to [B, F]."""
        observation = stack_as_channels(observation)
        kind = observation.device.type
        autocast = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if autocast else self.conv1.weight.dtype
        # One pass makes the bytes floats (exactly, in bfloat16 too) and the layout channels_last,
        # in which convolutions of so few channels run up to three times as fast.
        x = observation.to(dtype=dtype, memory_format=torch.channels_last)
        scale = 1 / 255 if observation.dtype == torch.uint8 else 1.0
        return self._convolve(x, scale).flatten(1)

    def to_hidden(self, features: Tensor) -> Tensor:
        """[B, F] to [B, H]."""
        return F.relu(self.hidden(features))

    def _convolve(self, x: Tensor, scale: float) -> Tensor:
        # 0..255 to 0..1 behind the first layer's sums: a third of the numbers that the frames have,
        # and scaled weights would be rounded once more in bfloat16.
        bias = self.conv1.bias
        assert bias is not None
        x = F.conv2d(x, self.conv1.weight, stride=4)
        x = F.relu(torch.add(bias.view(-1, 1, 1), x, alpha=scale))
        return F.relu(self.conv3(F.relu(self.conv2(x))))
