"""Where an image has its channels, and images with the channels moved to the front."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fastdqn.errors import EnvError
from fastdqn.frame_format import is_image

LAYOUTS = ("chw", "hwc", "hw", "schw", "shwc")
COLOURS = (1, 3, 4)  # channels of grey, of colours, of colours and depth


def read_layout(shape: tuple[int, ...], dtype: str, wanted: str, name: str) -> str | None:
    """The layout of arrays of a shape; None: they are no images.

    A fourth axis in front is one of frames, as Gymnasium's FrameStackObservation makes.

    Args:
        shape: Without the axis of envs.
        dtype: Two dimensions are an image where they are made of bytes.
        wanted: ``chw`` or ``hwc``, where the caller knows; ``auto``: by the sizes.
        name: Of the envs, for messages.

    Raises:
        EnvError: Where the sizes leave it open.
    """
    if len(shape) == 2:
        return "hw" if is_image(shape, dtype == "uint8") else None
    if len(shape) not in (3, 4):
        return None
    frames = "s" if len(shape) == 4 else ""
    size = shape[-3:]
    possible = [
        layout
        for layout, moved in (("chw", size), ("hwc", (size[2], *size[:2])))
        if is_image(moved, True)
    ]
    if wanted != "auto":
        if wanted not in possible:
            raise EnvError(
                f"image_layout = {wanted!r} leaves images of shape {size} less than 3 x 3 pixels "
                f"in {name}; use the other one, or leave it out."
            )
        return frames + wanted
    if len(possible) == 2:
        possible = _likely(size)
    if len(possible) == 2:
        raise EnvError(
            f"Images of shape {size} may have their channels first or last in {name}; set "
            f"image_layout to chw or hwc."
        )
    return frames + possible[0] if possible else None


def _likely(shape: tuple[int, ...]) -> list[str]:
    """chw, hwc, or both where nothing decides."""
    first, middle, last = shape
    if (first == middle) != (middle == last):  # height and width are the same
        return ["hwc"] if first == middle else ["chw"]
    if (first in COLOURS) != (last in COLOURS):
        return ["chw"] if first in COLOURS else ["hwc"]
    if first != last and 2 * min(first, last) <= middle:  # channels are fewer than rows
        return ["chw"] if first < last else ["hwc"]
    return ["chw", "hwc"]


def moved(shape: tuple[int, ...], layout: str) -> tuple[int, int, int]:
    """[C, H, W] of what :func:`to_chw` makes of arrays of a shape, without the axis of envs."""
    if layout == "hw":
        return 1, shape[0], shape[1]
    first, second, third = shape[-3:]
    channels, height, width = (
        (third, first, second) if layout.endswith("hwc") else (first, second, third)
    )
    return channels * (shape[0] if layout.startswith("s") else 1), height, width


def to_chw(images: Any, layout: str) -> Any:
    """[N, ...] in a layout, numpy or torch, as [N, C, H, W]; a view where there can be one.

    Frames in a stack become channels, the oldest first.
    """
    if layout == "hw":
        return images[:, None]
    if layout.endswith("hwc"):
        front = len(layout) - 2  # axis of the channels, behind those of envs and frames
        order = [*range(front), images.ndim - 1, *range(front, images.ndim - 1)]
        images = images.permute(order) if isinstance(images, Tensor) else images.transpose(order)
    if layout.startswith("s"):
        shape = (len(images), images.shape[1] * images.shape[2], *images.shape[3:])
        images = images.reshape(shape)
    return images
