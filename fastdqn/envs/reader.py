"""From what an env returns to the frames that a replay stores and a network sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Self

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.spaces import Box
from torch import Tensor

from fastdqn.envs import arrays, layout
from fastdqn.envs.leaves import Leaf, ObservationOptions, Stored, read_leaves
from fastdqn.errors import ConfigError, EnvError
from fastdqn.frame_format import MOST_CATEGORIES, FrameFormat
from fastdqn.types import Array

_INTEGRAL = 1e-3  # how far from a whole number a float may lie that stands for a byte


class ObservationReader:
    """Makes one frame of each observation: [N, *O], numpy or torch as the envs have it.

    A single image or vector stays what it is, its channels moved to the front. Integers that are
    categories are stored as integers from 0; the network makes them one-hot. Parts of several are
    joined: vectors end to end (categories first), an image and a vector in one row, as bytes where
    the image is made of bytes.

    Args:
        leaves: The arrays of an observation.
        frame_stack: S, where the replay stacks frames: then images [H, W] stay that.
        notes: What was decided about the space.
        bounds: Lowest and highest value of an observation that is one Box.
        options: What the caller said.

    Attributes:
        frame_shape: O, of one frame.
        frame_dtype: ``uint8`` or ``float32``.
        format: What its numbers mean.
        plain: The observation is the frame: there is nothing to do but to cast it.
        notes: What was decided about the space, a few words each.

    Raises:
        EnvError: Where the parts cannot be joined.
    """

    def __init__(
        self,
        leaves: Sequence[Leaf],
        *,
        frame_stack: int | None,
        name: str = "the envs",
        notes: Sequence[str] = (),
        bounds: tuple[Any, Any] | None = None,
        options: ObservationOptions | None = None,
    ) -> None:
        self.options = options or ObservationOptions()
        self.leaves, self.frame_stack, self.name = tuple(leaves), frame_stack, name
        self._images = [leaf for leaf in leaves if leaf.kind == "image"]
        # Categories first: a network finds them by their number.
        rest = [leaf for leaf in leaves if leaf.kind != "image"]
        self._vector = sorted(rest, key=lambda leaf: leaf.kind != "categories")
        self._alone = leaves[0] if len(leaves) == 1 else None
        self.format, shape, dtype = self._join()
        self.plain = self._is_plain(shape)
        self.frame_shape, self.frame_dtype, self._bounds = shape, dtype, bounds
        self.notes = (*notes, *self._said())

    @classmethod
    def of_space(
        cls,
        space: spaces.Space,
        options: ObservationOptions,
        *,
        frame_stack: int | None,
        name: str,
    ) -> Self:
        """That for a space; EnvError where an observation has no one meaning."""
        leaves, notes = read_leaves(space, options, name)
        bounds = (space.low, space.high) if isinstance(space, Box) else None
        return cls(
            leaves,
            frame_stack=frame_stack,
            name=name,
            notes=notes,
            bounds=bounds,
            options=options,
        )

    # --- what a frame is -----------------------------------------------------------------------

    def _join(self) -> tuple[FrameFormat, tuple[int, ...], Stored]:
        """Format, shape and dtype of a frame."""
        sizes = tuple(size for leaf in self._vector for size in leaf.sizes)
        if sum(sizes) > MOST_CATEGORIES:
            raise EnvError(
                f"{self.name} has {sum(sizes)} categories in all; at most {MOST_CATEGORIES} fit a "
                f"one-hot vector, so choose fewer by observation_keys."
            )
        length = sum(int(np.prod(leaf.shape)) for leaf in self._vector)
        if not self._images:
            alone = self._alone
            if alone is None or sizes:
                dtype: Stored = "float32" if alone is None else alone.stored
                return FrameFormat(False, 1, sizes), (length,), dtype
            return FrameFormat(False, alone.divisor), alone.shape or (1,), alone.stored
        image, first = self._image_shape(), self._images[0]
        if not self._vector:
            keeps = first.layout == "hw" and self.frame_stack is not None
            shape = image[1:] if keeps and len(self._images) == 1 else image
            return FrameFormat(True, first.divisor), shape, first.stored
        pixels = int(np.prod(image))
        row = pixels + (4 * length if first.stored == "uint8" else length)
        return FrameFormat(False, first.divisor, sizes, image), (row,), first.stored

    def _image_shape(self) -> tuple[int, int, int]:
        """[C, H, W] of all images, as channels of one."""
        first = self._images[0]
        shapes: list[tuple[int, int, int]] = []
        for leaf in self._images:
            assert leaf.layout is not None
            shapes.append(layout.moved(leaf.shape, leaf.layout))
            alike = shapes[-1][1:] == shapes[0][1:] and (leaf.stored, leaf.divisor) == (
                first.stored,
                first.divisor,
            )
            if not alike:
                raise EnvError(
                    f"{self.name} has images of two kinds, {first.name!r} {first.shape} "
                    f"{first.dtype} and {leaf.name!r} {leaf.shape} {leaf.dtype}; choose one by "
                    f"observation_keys."
                )
        return sum(shape[0] for shape in shapes), shapes[0][1], shapes[0][2]

    def _is_plain(self, shape: tuple[int, ...]) -> bool:
        alone = self._alone
        return (
            alone is not None
            and not alone.path
            and alone.kind != "categories"
            and alone.shape == shape
            and alone.layout in (None, "chw", "hw")
            and alone.to_bytes is None
        )

    def _said(self) -> list[str]:
        said = []
        for leaf in self._images:
            if leaf.layout in ("hwc", "shwc"):
                said.append(f"{leaf.name or 'images'} {leaf.shape} moved to channels first")
            if leaf.to_bytes is not None:
                said.append(f"{leaf.name or 'images'} stored as bytes")
        if len(self.leaves) > 1:
            scaled = [leaf for leaf in self._vector if leaf.divisor != 1]
            said += [f"{leaf.name} divided by {leaf.divisor}" for leaf in scaled]
            said.append(f"made of {', '.join(leaf.name for leaf in self.leaves)}")
        return said

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts that an observation is made of, in order."""
        return tuple(leaf.name for leaf in self.leaves)

    @property
    def frame_space(self) -> Box:
        """The Box of one frame; made when asked for, for it holds two frames of bounds."""
        dtype = self.frame_dtype
        low: Any = 0 if dtype == "uint8" else -np.inf
        high: Any = 255 if dtype == "uint8" else np.inf
        if self.plain and self._bounds is not None:
            with np.errstate(over="ignore"):  # a float64 bound may be infinite in float32
                low, high = (np.asarray(b).astype(dtype) for b in self._bounds)
        return Box(low, high, self.frame_shape, np.dtype(dtype).type)

    def __str__(self) -> str:
        """What a frame means and what was decided, in one line."""
        return "; ".join([str(self.format), *self.notes])

    # --- frames --------------------------------------------------------------------------------

    def frames(self, raw: Any, num: int, what: str | None = "observation") -> Any:
        """The frames [N, *O] of a batch of observations; they may be in the memory of ``raw``.

        Args:
            raw: Array, dictionary or tuple as the space says, [N, ...] each.
            num: N.
            what: Its name in messages; None: it is no env's, but that of somebody with a policy.

        Raises:
            EnvError: Where it is not what the space promises.
        """
        vector = [self._numbers(leaf, raw, num, what) for leaf in self._vector]
        if not self._images:
            joined = vector[0] if len(vector) == 1 else _concatenate(vector)
            if self._alone is None or self.format.one_hot:
                return joined
            return arrays.cast(joined, self._alone.stored).reshape(num, *self.frame_shape)
        images = [self._pixels(leaf, raw, num, what) for leaf in self._images]
        image = images[0] if len(images) == 1 else _concatenate(images)
        if not vector:
            return image.reshape(num, *self.frame_shape)
        return _pack(image.reshape(num, -1), _concatenate(vector))

    @property
    def checks_values(self) -> bool:
        """Whether :meth:`frames` refuses numbers: of no category, or of no byte."""
        return any(leaf.kind == "categories" or leaf.to_bytes for leaf in self.leaves)

    def single(self, raw: Any, what: str | None = "observation") -> Any:
        """The frame [*O] of one observation."""
        return self.frames(_with_axis(raw), 1, what)[0]

    def of_caller(self, raw: Any) -> tuple[Any, bool]:
        """Frames [N, *O] of what somebody with a policy has, and whether it was one observation.

        One or a batch shows by the dimensions of its first part.
        """
        leaf = self.leaves[0]
        first = self._at(raw, leaf, None)
        shape = tuple(np.shape(first))
        batch = shape and arrays.without_ones(shape) == arrays.without_ones((shape[0], *leaf.shape))
        if len(shape) > len(leaf.shape) or (batch and shape != leaf.shape):
            return self.frames(raw, shape[0], None), False
        return self.single(raw, None)[None], True

    def _numbers(self, leaf: Leaf, raw: Any, num: int, what: str | None) -> Any:
        """A leaf as a part of a vector: [N, n] float32, or bytes where it is alone and has them."""
        x = self._checked(leaf, self._at(raw, leaf, what), num, what)
        x = x.reshape(num, -1)
        if leaf.kind == "categories":
            x = self._from_zero(leaf, x, what)
        if self._alone is not None:
            return arrays.cast(x, leaf.stored)
        x = arrays.cast(x, "float32")
        return x if leaf.divisor == 1 else x / leaf.divisor

    def _from_zero(self, leaf: Leaf, x: Any, what: str | None) -> Any:
        """Categories counted from 0; on the host, refused outside of their range."""
        x = x - arrays.as_kind_of(np.array(leaf.starts), x)
        sizes = arrays.as_kind_of(np.array(leaf.sizes), x)
        wrong = (x < 0) | (x >= sizes)
        if arrays.on_host(x) and bool(wrong.any()):
            row, column = divmod(int(wrong.reshape(-1).argmax()), len(leaf.sizes))
            start, size = leaf.starts[column], leaf.sizes[column]
            raise self._misfit(
                leaf,
                what,
                f"of category {int(x[row, column]) + start}",
                f"{start} to {start + size - 1}",
            )
        return x

    def _pixels(self, leaf: Leaf, raw: Any, num: int, what: str | None) -> Any:
        """A leaf as an image, [N, C, H, W] in the dtype in which it is stored."""
        x = self._checked(leaf, self._at(raw, leaf, what), num, what)
        assert leaf.layout is not None
        x = layout.to_chw(x, leaf.layout)
        if leaf.to_bytes is not None:
            x = self._to_bytes(leaf, x, what)
        x = arrays.cast(x, leaf.stored)
        return x.contiguous() if isinstance(x, Tensor) else np.ascontiguousarray(x)

    def _to_bytes(self, leaf: Leaf, x: Any, what: str | None) -> Any:
        """Floats that stand for bytes, as those."""
        assert leaf.to_bytes is not None
        x = x * leaf.to_bytes
        whole = x.round()
        are_bytes = (abs(x - whole) <= _INTEGRAL) & (whole >= 0) & (whole <= 255)  # and not NaN
        if not bool(are_bytes.all()):
            i = int((~are_bytes).reshape(-1).argmax())
            pixel = float(x.reshape(-1)[i]) / leaf.to_bytes
            of = f"{self.name} returned " if what is not None else ""
            raise EnvError(
                f"{of}{leaf.name or 'an observation'} with a pixel of {pixel:g}, which is no byte; "
                f"set store_uint8 = False."
            )
        return whole

    def _at(self, raw: Any, leaf: Leaf, what: str | None) -> Any:
        """The array of a leaf."""
        try:
            for key in leaf.path:
                raw = raw[key]
        except (KeyError, IndexError, TypeError):
            of = f"{self.name} returned {what}" if what is not None else "it is"
            raise EnvError(
                f"{of} without {leaf.name!r}, which its space has; "
                f"{'correct one of them' if what is not None else 'pass all parts'}."
            ) from None
        return raw

    def _checked(self, leaf: Leaf, x: Any, num: int, what: str | None) -> Any:
        """The array of a leaf, [N, *shape]; a reshape where only axes of 1 differ."""
        shape = (num, *leaf.shape)
        if not isinstance(x, Array):
            try:
                x = np.asarray(x)
            except ValueError:  # of arrays of several shapes
                raise self._misfit(leaf, what, f"of type {type(x).__name__}", f"{shape}") from None
        if tuple(x.shape) != shape:
            if arrays.without_ones(x.shape) != arrays.without_ones(shape):
                raise self._misfit(leaf, what, f"of shape {tuple(x.shape)}", f"{shape}")
            x = x.reshape(shape)
        if not arrays.fits(arrays.kind(x.dtype), arrays.kind(np.dtype(leaf.dtype))):
            raise self._misfit(leaf, what, f"of dtype {x.dtype}", leaf.dtype)
        return x

    # --- misfits -------------------------------------------------------------------------------

    def _misfit(self, leaf: Leaf, what: str | None, found: str, said: str) -> EnvError:
        """One sentence for what is not as the space says."""
        name = repr(leaf.name) if leaf.path else ""
        if what is None:
            return EnvError(
                f"{name or 'it'} is {found}, where the envs that the policy was trained in have "
                f"{said}; pass what such envs return."
            )
        return EnvError(
            f"{self.name} returned {f'{what} {name}'.rstrip()} {found}, but its space says {said}; "
            f"correct one of them."
        )

    # --- as a checkpoint holds it --------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        leaves = [leaf.to_dict() for leaf in self.leaves]
        return {"leaves": leaves, "options": asdict(self.options)}

    @classmethod
    def from_dict(cls, data: Any, frame_stack: int | None) -> Self:
        """What :meth:`to_dict` made, read back; it may be a forger's.

        Raises:
            ConfigError: Where it is something else.
        """
        data = data if isinstance(data, dict) else {}
        leaves, options = data.get("leaves"), data.get("options")
        if not isinstance(leaves, list) or not 1 <= len(leaves) <= 1000:
            raise ConfigError("the observation has no leaves.")
        try:
            return cls(
                [Leaf.from_dict(leaf) for leaf in leaves],
                frame_stack=frame_stack,
                options=ObservationOptions.checked(**options),
            )
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"the observation cannot be read ({error}).") from None


def _with_axis(raw: Any) -> Any:
    """An observation as a batch of one."""
    if isinstance(raw, dict):
        return {key: _with_axis(value) for key, value in raw.items()}
    if isinstance(raw, tuple | list):
        return tuple(_with_axis(value) for value in raw)
    return raw[None] if isinstance(raw, Tensor) else np.asarray(raw)[None]


def _concatenate(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], Tensor):
        return torch.cat(list(parts), dim=1)
    return np.concatenate(parts, axis=1)


def _pack(pixels: Any, vector: Any) -> Any:
    """One row of an image [N, P] and a vector float32 [N, n]."""
    if arrays.kind(pixels.dtype) == "uint8":
        if isinstance(vector, Tensor):
            return torch.cat((pixels, vector.contiguous().view(torch.uint8)), dim=1)
        return np.concatenate((pixels, np.ascontiguousarray(vector).view(np.uint8)), axis=1)
    return _concatenate([pixels, vector])
