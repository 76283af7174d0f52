"""From stored frames to what a torso takes: scaled pixels, one-hot categories, unpacked rows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastdqn.frame_format import FrameFormat
from fastdqn.networks.normalizer import Normalizer


class FrameEncoder(nn.Module):
    """Frames [B, *O] or [B, S, *O] to floats; packed ones to an image and a vector.

    Without one a torso sees frames as they are, and divides bytes by 255 by itself.

    Args:
        frame_shape: O.
        frame_dtype: ``uint8`` or ``float32``, as frames are stored.
        format: What the numbers of a frame mean.
        normalize: Shift and scale the numbers by running statistics; without numbers there is no
            ``normalizer``.
        flat: Join the image and the vector of packed frames to one vector.
    """

    def __init__(
        self,
        frame_shape: Sequence[int],
        frame_dtype: str,
        format: FrameFormat,
        *,
        normalize: bool = False,
        flat: bool = False,
    ) -> None:
        super().__init__()
        self.format, self.flat = format, flat
        shape = tuple(frame_shape)
        self.frame_dims = len(shape)
        self.as_bytes = frame_dtype == "uint8"
        self.scale = 1 / format.divisor
        self.categories = len(format.one_hot)
        numbers = 0 if format.image else format.numbers(shape, frame_dtype) - self.categories
        self.vector_features = sum(format.one_hot) + numbers
        self.normalizer = Normalizer(numbers) if normalize and numbers else None
        if format.one_hot:
            # Not in checkpoints: they follow from the format.
            total = sum(format.one_hot)
            self.register_buffer("owner", torch.zeros(total, dtype=torch.int64), persistent=False)
            self.register_buffer("position", torch.zeros(total), persistent=False)
            self.fill_constants()

    @torch.no_grad()
    def fill_constants(self) -> None:
        """Fill what no checkpoint holds; once more where memory was made without values."""
        if not self.format.one_hot:
            return
        sizes = self.format.one_hot
        owner = [i for i, size in enumerate(sizes) for _ in range(size)]
        position = [k for size in sizes for k in range(size)]
        self.get_buffer("owner").copy_(torch.tensor(owner))
        self.get_buffer("position").copy_(torch.tensor(position, dtype=torch.float32))

    def forward(
        self, observation: Tensor | tuple[Tensor, Tensor]
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Floats in the shape of the observation, its vector one-hot; or (image, vector).

        Args:
            observation: As stored; packed ones may come as what :meth:`unpack` makes of them.
        """
        packed = self.format.packed_image
        if packed is None:
            assert isinstance(observation, Tensor)
            if self.format.image:
                return observation.float() * self.scale
            return self._vector(observation.flatten(observation.dim() - self.frame_dims))
        image, vector = observation if isinstance(observation, tuple) else self.unpack(observation)
        image = image.float() * self.scale
        vector = self._vector(vector, scaled=False)
        if self.flat:
            return torch.cat((image.flatten(1), vector.flatten(1)), dim=1)
        return image, vector

    def unpack(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Packed frames [..., row] as images [..., C, H, W] and vectors float32 [..., n]."""
        packed = self.format.packed_image
        assert packed is not None
        pixels = math.prod(packed)
        vector = frames[..., pixels:]
        image = frames[..., :pixels].unflatten(-1, packed)
        return image, as_floats(vector) if self.as_bytes else vector

    def numbers(self, frames: Tensor) -> Tensor:
        """Of frames [N, *O], what is neither pixel nor category, float32 [N, n]."""
        packed = self.format.packed_image
        rows = frames.flatten(1)
        if packed is not None:
            rows = rows[:, math.prod(packed) :]
            rows = as_floats(rows) if self.as_bytes else rows
            return rows[:, self.categories :]
        return rows[:, self.categories :].float() * self.scale

    def extra_repr(self) -> str:
        """What makes two of them alike."""
        return str(self.format.to_dict())

    def _vector(self, x: Tensor, scaled: bool = True) -> Tensor:
        """[..., categories + n] to floats [..., vector_features]."""
        x = x.float()
        numbers = x[..., self.categories :] if self.categories else x
        if scaled and self.scale != 1:
            numbers = numbers * self.scale
        if self.normalizer is not None:
            numbers = self.normalizer(numbers)
        if not self.categories:
            return numbers
        named = x.index_select(-1, self.get_buffer("owner")) == self.get_buffer("position")
        return torch.cat((named.float(), numbers), dim=-1)


def as_floats(x: Tensor) -> Tensor:
    """Bytes [..., 4 n] as the float32 numbers [..., n] that they are."""
    # In new memory: a slice may start where no float can.
    return x.clone(memory_format=torch.contiguous_format).view(torch.float32)


def needs_encoder(frame_dtype: str, format: FrameFormat, normalize: bool) -> bool:
    """Whether a torso by itself would make something else of such frames."""
    by_itself = FrameFormat.of_bytes((), frame_dtype).divisor
    joined = format.one_hot or format.packed_image is not None
    return bool(joined) or normalize or format.divisor != by_itself
