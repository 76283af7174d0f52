"""The residual convolutional network of IMPALA (Espeholt 2018, arXiv 1802.01561, figure 3, right).

The paper's large network without its LSTM. A multiplier widens it, as in Cobbe 2019 (arXiv
1912.01588).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdqn.config.arguments import check_sizes
from fastdqn.networks.draws import Randoms
from fastdqn.networks.onednn import Linear
from fastdqn.networks.torso import MakeLayer, Torso, check_beside, check_size, stack_as_channels

if TYPE_CHECKING:
    from fastdqn.networks.spec import NetworkSpec

CHANNELS = (16, 32, 32)
MIN_SIZE = 8  # each of the three poolings has something to halve


class ResidualBlock(nn.Module):
    """``x + conv2(relu(conv1(relu(x))))``, 3 x 3 with padding: [B, C, H, W] to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C, H, W]."""
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class Section(nn.Module):
    """Convolution 3 x 3, max-pooling 3 x 3 with stride 2, residual blocks."""

    STRIDE: ClassVar[int] = 1  # of the convolution

    def __init__(self, inputs: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, channels, 3, stride=self.STRIDE, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(channels) for _ in range(blocks))

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        """``scale`` times [B, I, H, W] to [B, C, ceil(H / 2), ceil(W / 2)]."""
        # The largest of scaled and shifted sums is the largest sum, scaled and shifted: behind the
        # pooling there are a quarter of the numbers, and the frames are never divided.
        bias = self.conv.bias
        assert bias is not None
        x = torch.add(bias.view(-1, 1, 1), self.halve(x), alpha=scale)
        for block in self.blocks:
            x = block(x)
        return x

    def halve(self, x: Tensor) -> Tensor:
        """The convolution without its bias, on every second pixel of each side."""
        return F.max_pool2d(F.conv2d(x, self.conv.weight, padding=1), 3, stride=2, padding=1)


class ImpalaCNN(Torso):
    """Three sections, a ReLU and one hidden layer, on [B, S, H, W]; bytes become 0..1.

    Poolings are padded by a pixel on each side: sizes are those of the paper's code, whose
    windows lie one pixel further right and down where a size is even.

    Args:
        channels: Of the observation, stack included.
        height: In pixels, at least 8.
        width: Likewise.
        hidden: Units of the hidden layer; the paper has 256.
        multiplier: Of the channels 16, 32 and 32.
        beside: Features of something else that the hidden layer takes behind those of the body.
        linear: Makes the hidden layer.

    Raises:
        ConfigError: Where the frames are too small, or a size is no whole number from 1.
    """

    NAME: ClassVar[str] = "impala"
    SECTIONS: ClassVar[tuple[type[Section], ...]] = (Section, Section, Section)
    BLOCKS: ClassVar[tuple[int, ...]] = (2, 2, 2)  # of each section
    CENTRE: ClassVar[float] = 0.0  # taken from pixels 0..1

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        hidden: int,
        *,
        multiplier: int = 1,
        beside: int = 0,
        linear: MakeLayer = Linear,
    ) -> None:
        super().__init__()
        check_sizes(
            channels=channels, height=height, width=width, multiplier=multiplier, hidden=hidden
        )
        check_beside(beside)
        check_size(self.NAME, MIN_SIZE, height, width, instead="small_cnn")
        plan = (channels, *(multiplier * count for count in CHANNELS))
        self.sections = nn.ModuleList(
            section(inward, out, blocks)
            for section, (inward, out), blocks in zip(
                self.SECTIONS, pairwise(plan), self.BLOCKS, strict=True
            )
        )
        for _ in self.sections:
            height, width = -(-height // 2), -(-width // 2)
        self.body_features = plan[-1] * height * width
        self.hidden = linear(self.body_features + beside, hidden)
        self.features = hidden

    @classmethod
    def from_spec(cls, spec: NetworkSpec) -> Self:
        """See :meth:`Torso.from_spec`."""
        size, width = spec.image_size, spec.impala_width
        return cls(
            *size, spec.hidden_size, multiplier=width, beside=spec.beside, linear=spec.hidden_linear
        )

    def body(self, observation: Tensor) -> Tensor:
        """[B, S, H, W] (or [B, S, C, H, W]), uint8 or floats, to [B, F]."""
        observation = stack_as_channels(observation)
        kind, weight = observation.device.type, self.hidden.weight
        autocast = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if autocast else weight.dtype
        # channels_last: convolutions of so few channels are fastest in it.
        x = observation.to(dtype=dtype, memory_format=torch.channels_last)
        unit = 255 if observation.dtype == torch.uint8 else 1
        if self.CENTRE:
            x = x - self.CENTRE * unit
        scale = 1 / unit
        for section in self.sections:
            x, scale = section(x, scale), 1.0
        return F.relu(x).flatten(1)

    def to_hidden(self, features: Tensor, randoms: Randoms | None = None) -> Tensor:
        """[B, F] to [B, H]."""
        return F.relu(self.hidden(features, randoms))
