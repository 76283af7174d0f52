"""What the numbers in a frame mean: pixels, numbers or categories, and how they are scaled."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fastdqn.errors import ConfigError, cut_short

if TYPE_CHECKING:
    from gymnasium.spaces import Box

MOST_CATEGORIES = 100_000  # of all one-hot vectors together: the first layer has a row for each
SMALLEST_PICTURE = 16  # below that bytes are symbols, as MiniGrid's, not grey levels
SMALLEST_IMAGE = 3  # what a 3 x 3 convolution can see
_LONGEST = 4  # times its width that a grid of bytes may be high: else it is a stack of vectors

_MOST = 2**31  # of any size: a format is read from files, too


@dataclass(frozen=True)
class FrameFormat:
    """What the numbers of a frame mean, for the network that sees them.

    A frame is an image; or a vector, whose first numbers may be categories; or packed: one row with
    an image in front and a vector behind, as bytes where the image is made of bytes.

    Attributes:
        image: It is an image, [C, H, W] or [H, W].
        divisor: What an image, or a vector of bytes, is divided by for the network.
        one_hot: Sizes of the categories: the first numbers of the vector are integers from 0.
        packed_image: [C, H, W] of the image that a packed frame starts with.
    """

    image: bool
    divisor: int = 1
    one_hot: tuple[int, ...] = ()
    packed_image: tuple[int, int, int] | None = None

    @classmethod
    def of_bounds(
        cls, shape: tuple[int, ...], dtype: str, low: Any, high: Any, divisor: int | None = None
    ) -> FrameFormat:
        """By bounds: what runs from 0 to 255 is divided by 255, symbols on a small grid are not.

        Args:
            shape: O, of frames whose channels, if any, come first.
            dtype: As their space says.
            low: The lowest value of all.
            high: The highest.
            divisor: Instead of the one that the bounds suggest.
        """
        is_bytes = dtype == "uint8"
        image = is_image(shape, is_bytes)
        if divisor is None:
            large = min(shape[-2:]) >= SMALLEST_PICTURE if image else is_bytes
            divisor = 255 if low == 0 and high == 255 and large else 1
        return cls(image, divisor)

    @classmethod
    def of_box(cls, space: Box) -> FrameFormat:
        """:meth:`of_bounds` for the space of a frame."""
        bounds = space.low.min(), space.high.max()
        return cls.of_bounds(tuple(space.shape), str(space.dtype), *bounds)

    @classmethod
    def of_bytes(cls, shape: tuple[int, ...], dtype: str | None) -> FrameFormat:
        """By dtype and rank alone, as before frames had a format: bytes are divided by 255."""
        is_bytes = dtype == "uint8"
        return cls(is_bytes and len(shape) in (2, 3), 255 if is_bytes else 1)

    def numbers(self, shape: tuple[int, ...], dtype: str) -> int:
        """How many numbers the vector of a frame has, categories included.

        Args:
            shape: O, of the frame.
            dtype: ``uint8`` or ``float32``.
        """
        if self.packed_image is None:
            return math.prod(shape)
        return (math.prod(shape) - math.prod(self.packed_image)) // (4 if dtype == "uint8" else 1)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, data: Any) -> FrameFormat:
        """What :meth:`to_dict` made, read back; it may be a forger's.

        Raises:
            ConfigError: Where it is something else.
        """

        def is_size(value: Any) -> bool:
            return type(value) is int and 1 <= value <= _MOST

        names = ["image", "divisor", "one_hot", "packed_image"]
        if not isinstance(data, dict) or sorted(data) != sorted(names):
            raise ConfigError(f"frame_format = {cut_short(data)} must be an object of {names}.")
        one_hot, packed = data["one_hot"], data["packed_image"]
        right = {
            "image": type(data["image"]) is bool,
            "divisor": is_size(data["divisor"]),
            "one_hot": isinstance(one_hot, list)
            and len(one_hot) <= MOST_CATEGORIES
            and all(map(is_size, one_hot))
            and sum(one_hot) <= MOST_CATEGORIES,
            "packed_image": packed is None
            or (isinstance(packed, list) and len(packed) == 3 and all(map(is_size, packed))),
        }
        for name, good in right.items():
            if not good:
                raise ConfigError(f"frame_format.{name} = {cut_short(data[name])} is no {name}.")
        sizes = None if packed is None else (packed[0], packed[1], packed[2])
        return cls(data["image"], data["divisor"], tuple(one_hot), sizes)

    def __str__(self) -> str:
        """In a few words."""
        by = "as they are" if self.divisor == 1 else f"divided by {self.divisor}"
        parts = []
        if self.packed_image is not None:
            parts.append(f"an image {' x '.join(map(str, self.packed_image))} {by}")
        elif not self.one_hot:
            return f"images {by}" if self.image else f"numbers {by}"
        if self.one_hot:
            sizes = ", ".join(map(str, self.one_hot[:8])) + (", ..." if self.one_hot[8:] else "")
            parts.append(f"categories one-hot ({sizes})")
        return " and ".join(parts)


def is_image(shape: tuple[int, ...], is_bytes: bool) -> bool:
    """Whether frames [C, H, W], or [H, W] of bytes, are images that a convolution can see.

    Two dimensions of floats are a table more often than a picture, and a few long rows of bytes
    are vectors in a stack.
    """
    short, long = min(shape[-2:], default=0), max(shape[-2:], default=0)
    if len(shape) == 2:
        return is_bytes and short >= SMALLEST_IMAGE and long <= _LONGEST * short
    return len(shape) == 3 and short >= SMALLEST_IMAGE
