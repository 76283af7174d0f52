"""Two branches, for observations that are an image and a vector."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdqn.networks.draws import Randoms
from fastdqn.networks.onednn import Linear
from fastdqn.networks.torso import Torso

if TYPE_CHECKING:
    from fastdqn.networks.spec import NetworkSpec

VECTOR_FEATURES = 64


class ImageAndVector(Torso):
    """An image torso whose hidden layer also takes 64 features of a vector.

    Args:
        image: Takes the image; its hidden layer has room for ``VECTOR_FEATURES`` more.
        vector_inputs: Numbers of the vector, stack included.
    """

    def __init__(self, image: Torso, vector_inputs: int) -> None:
        super().__init__()
        self.image = image
        self.vector = Linear(vector_inputs, VECTOR_FEATURES)
        self.body_features = image.body_features + VECTOR_FEATURES
        self.features = image.features

    @classmethod
    def around(cls, image: type[Torso], spec: NetworkSpec) -> ImageAndVector:
        """Around the image torso that a description asks for."""
        return cls(image.from_spec(spec), spec.vector_inputs)

    def forward(  # type: ignore[override]
        self, observation: tuple[Tensor, Tensor], randoms: Randoms | None = None
    ) -> Tensor:
        """(image [B, (S,) C, H, W], vector [B, (S,) n]) to [B, H]."""
        return self.to_hidden(self.body(observation), randoms)

    def body(self, observation: tuple[Tensor, Tensor]) -> Tensor:  # type: ignore[override]
        """(image, vector) to [B, F]."""
        image, vector = observation
        numbers = vector.flatten(1).to(self.vector.weight.dtype)
        return torch.cat((self.image.body(image), F.relu(self.vector(numbers))), dim=1)

    def to_hidden(self, features: Tensor, randoms: Randoms | None = None) -> Tensor:
        """[B, F] to [B, H]."""
        return self.image.to_hidden(features, randoms)
