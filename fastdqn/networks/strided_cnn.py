"""Convolutions with strides, each with a ReLU, and one hidden layer: the networks of the papers."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdqn.config.arguments import check_choice, check_sizes
from fastdqn.networks.draws import Randoms
from fastdqn.networks.normalized_linear import NormalizedLinear
from fastdqn.networks.onednn import Linear, has_conv_relu, strided_convolutions, strided_features
from fastdqn.networks.torso import MakeLayer, Torso, check_beside, check_size, stack_as_channels

if TYPE_CHECKING:
    from fastdqn.networks.spec import NetworkSpec


class StridedCNN(Torso):
    """The convolutions of ``PLAN`` and one hidden layer, on [B, S, H, W]; bytes become 0..1.

    Args:
        channels: Of the observation, stack included.
        height: In pixels.
        width: Likewise.
        hidden: Units of the hidden layer.
        beside: Features of something else that the hidden layer takes behind those of the body.
        padding: ``valid``: none. ``same``: zeros around what each convolution sees, the odd one
            behind, so that a size becomes ``ceil(size / stride)``.
        linear: Makes the hidden layer.

    Raises:
        ConfigError: Where the frames are too small, or a size is no whole number from 1.
    """

    PLAN: ClassVar[tuple[tuple[int, int, int], ...]]
    """Channels, kernel and stride of each convolution."""
    NAME: ClassVar[str]
    """Of the network in a configuration."""
    MIN_SIZE: ClassVar[int]
    """Of frames of which the last convolution sees something."""

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        hidden: int,
        *,
        beside: int = 0,
        padding: str = "valid",
        linear: MakeLayer = Linear,
    ) -> None:
        super().__init__()
        check_sizes(channels=channels, height=height, width=width, hidden=hidden)
        check_beside(beside)
        check_choice("padding", padding, ("valid", "same"))
        if padding == "valid":
            check_size(self.NAME, self.MIN_SIZE, height, width, instead="small_cnn")
        self.padding = padding
        self.borders: list[tuple[int, int, int, int] | None] = []
        plan = (channels, *(out for out, _, _ in self.PLAN))
        for number, (inward, out) in enumerate(pairwise(plan)):
            _, kernel, stride = self.PLAN[number]
            self.add_module(f"conv{number + 1}", nn.Conv2d(inward, out, kernel, stride=stride))
            if padding == "same":
                border = (*_border(width, kernel, stride), *_border(height, kernel, stride))
                self.borders.append(border if any(border) else None)
                height, width = -(-height // stride), -(-width // stride)
            else:
                self.borders.append(None)
                height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
        self.body_features = plan[-1] * height * width
        self.hidden = linear(self.body_features + beside, hidden)
        self.features = hidden

    @classmethod
    def from_spec(cls, spec: NetworkSpec) -> Self:
        """See :meth:`Torso.from_spec`."""
        return cls(
            *spec.image_size,
            spec.hidden_size,
            beside=spec.beside,
            padding=spec.padding,
            linear=spec.hidden_linear,
        )

    @property
    def convolutions(self) -> list[nn.Conv2d]:
        """The layers, in order."""
        return [getattr(self, f"conv{number + 1}") for number in range(len(self.PLAN))]

    def forward(self, observation: Tensor, randoms: Randoms | None = None) -> Tensor:
        """[B, S, H, W] (or [B, S, C, H, W]) to [B, features]."""
        if randoms is None and not isinstance(self.hidden, NormalizedLinear):
            observation = stack_as_channels(observation)
            if has_conv_relu(observation.device.type, self.hidden.weight.dtype):
                return strided_features(self, observation)
        return self.to_hidden(self.body(observation), randoms)

    def body(self, observation: Tensor) -> Tensor:
        """[B, S, H, W] (or [B, S, C, H, W]) to [B, F]."""
        observation = stack_as_channels(observation)
        kind, weight = observation.device.type, self.hidden.weight
        bytewise = observation.dtype == torch.uint8
        if has_conv_relu(kind, weight.dtype):
            features = strided_convolutions(self, observation).flatten(1)
            return features / 255 if bytewise else features
        autocast = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if autocast else weight.dtype
        # One pass makes the bytes floats (exactly, in bfloat16 too) and the layout channels_last,
        # in which convolutions of so few channels run up to three times as fast.
        x = observation.to(dtype=dtype, memory_format=torch.channels_last)
        first, *rest = self.convolutions
        # 0..255 to 0..1 behind the first layer's sums: a third of the numbers that the frames have,
        # and scaled weights would be rounded once more in bfloat16.
        bias = first.bias
        assert bias is not None
        x = F.conv2d(self.bordered(x, 0), first.weight, stride=first.stride)
        x = F.relu(torch.add(bias.view(-1, 1, 1), x, alpha=1 / 255 if bytewise else 1.0))
        for number, layer in enumerate(rest, 1):
            x = F.relu(layer(self.bordered(x, number)))
        return x.flatten(1)

    def bordered(self, x: Tensor, number: int) -> Tensor:
        """What a convolution sees, with its border of zeros."""
        border = self.borders[number]
        return x if border is None else F.pad(x, border)

    def to_hidden(self, features: Tensor, randoms: Randoms | None = None) -> Tensor:
        """[B, F] to [B, H]."""
        return F.relu(self.hidden(features, randoms))

    def extra_repr(self) -> str:
        """What makes two of them alike."""
        return "" if self.padding == "valid" else f"padding={self.padding}, borders={self.borders}"


def _border(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and behind, as TensorFlow and JAX place those of SAME."""
    missing = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    return missing // 2, missing - missing // 2
