"""A convolution with a stride as one without, on blocks of pixels laid side by side as channels.

A kernel of 8 x 8 with stride 4 on 84 x 84 x 4 is one of 2 x 2 with stride 1 on 21 x 21 x 64, and
4 x 4 with stride 2 on 20 x 20 x 32 is 2 x 2 on 10 x 10 x 128: the same products, added in another
order. Tensor cores want many channels, in multiples of 8.
"""

from __future__ import annotations

import torch
from torch import Tensor


def space_to_depth(x: Tensor, block: int, dtype: torch.dtype | None = None) -> Tensor:
    """Blocks of pixels as channels; of a kernel's weights likewise.

    Args:
        x: [B, C, H, W], H and W multiples of ``block``.
        block: Pixels on a side.
        dtype: Of the result; None keeps that of ``x``.

    Returns:
        [B, block * block * C, H / block, W / block], channels_last. A channel's number is
        ``(row * block + column) * C + c``.
    """
    batch, channels, height, width = x.shape
    rows, columns = height // block, width // block
    blocks = x.view(batch, channels, rows, block, columns, block).permute(0, 2, 4, 3, 5, 1)
    # One pass changes the dtype and the order.
    blocks = blocks.to(dtype or x.dtype, memory_format=torch.contiguous_format)
    return blocks.reshape(batch, rows, columns, -1).permute(0, 3, 1, 2)


def depth_to_space(x: Tensor, block: int) -> Tensor:
    """The inverse: [B, block * block * C, H, W] to [B, C, block * H, block * W], channels_last."""
    batch, channels, rows, columns = x.shape
    depth = channels // block**2
    pixels = x.permute(0, 2, 3, 1).reshape(batch, rows, columns, block, block, depth)
    pixels = pixels.transpose(2, 3).reshape(batch, rows * block, columns * block, depth)
    return pixels.permute(0, 3, 1, 2)
