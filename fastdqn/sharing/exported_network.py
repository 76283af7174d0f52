"""A network as other programs call it: arrays in, Q out, in float32 and without noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fastdqn.networks.encoder import FrameEncoder
from fastdqn.networks.forward import to_q
from fastdqn.spaces import Spaces

OUTPUT = "q_values"


@dataclass(frozen=True)
class NetworkInput:
    """One array that an exported network takes, behind its axis of the batch.

    Attributes:
        name: What it is called.
        shape: [S, *O], or O without stacks.
        dtype: ``uint8`` or ``float32``.
        categories: Sizes of the categories that its last axis starts with: integers from 0.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    categories: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    def __str__(self) -> str:
        """As a reader of shapes writes it."""
        return f"{self.name} {self.dtype} [{', '.join(['B', *map(str, self.shape)])}]"

    def random(self, count: int, generator: torch.Generator) -> Tensor:
        """Arrays [count, ...] within what the numbers mean."""
        shape = (count, *self.shape)
        if self.dtype == "uint8":
            made = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        else:
            made = torch.randn(shape, generator=generator)
        for place, size in enumerate(self.categories):
            drawn = torch.randint(0, size, shape[:-1], generator=generator)
            made[..., place] = drawn.to(made.dtype)
        return made


class ExportedNetwork(nn.Module):
    """Observations as the replay stores them to Q, float32 [B, A]: of a distribution the mean.

    Args:
        network: In evaluation mode, float32.
        inputs: What its ``forward`` takes, in order.
    """

    def __init__(self, network: nn.Module, inputs: Sequence[NetworkInput]) -> None:
        super().__init__()
        self.network, self.inputs = network, tuple(inputs)

    def forward(self, observation: Tensor) -> Tensor:
        """[B, *O] or [B, S, *O] to [B, A]."""
        return to_q(self.network, self.network(observation)).float()

    def split(self, observations: Tensor) -> tuple[Tensor, ...]:
        """Observations [B, ...] as stored, as the arguments of ``forward``."""
        return (observations,)


class UnpackedNetwork(ExportedNetwork):
    """The same of packed frames, in their parts: nobody else packs floats as bytes."""

    def forward(self, image: Tensor, vector: Tensor) -> Tensor:  # type: ignore[override]
        """[B, C, H, W] and [B, n], or [B, S, ...] of both, to [B, A]."""
        return to_q(self.network, self.network((image, vector))).float()

    def split(self, observations: Tensor) -> tuple[Tensor, ...]:
        """Observations [B, ...] as stored, as the arguments of ``forward``."""
        encoder = self.network.encoder
        assert isinstance(encoder, FrameEncoder)
        return encoder.unpack(observations)


def exported_network(network: nn.Module, spaces: Spaces) -> ExportedNetwork:
    """What is to be exported of a network for envs of these spaces."""
    format, dtype = spaces.format, spaces.frame_dtype or "float32"
    encoder = getattr(network, "encoder", None)
    if format.packed_image is None or not isinstance(encoder, FrameEncoder):
        whole = NetworkInput("observation", spaces.observation_shape, dtype, format.one_hot)
        return ExportedNetwork(network, [whole])
    stack = () if spaces.frame_stack is None else (spaces.frame_stack,)
    numbers = format.numbers(spaces.frame_shape, dtype)
    image = NetworkInput("image", (*stack, *format.packed_image), dtype)
    vector = NetworkInput("vector", (*stack, numbers), "float32", format.one_hot)
    return UnpackedNetwork(network, [image, vector])
