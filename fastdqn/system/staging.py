"""From the host to the device in one copy: all arrays of a step packed into one pinned buffer.

A pageable copy makes the host wait for every kernel already queued; seven small copies cost seven
launches. The packed buffer costs one of each, and the views on the device never move.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastdqn.types import Array

_ALIGN = 16


Layout = tuple[tuple[torch.Size, torch.dtype], ...]


class Packed(NamedTuple):
    """One buffer on each side, and the arrays as views into it."""

    host: Tensor
    device: Tensor
    host_views: list[Tensor]
    device_views: list[Tensor]


class HostStaging:
    """Copies sequences of arrays to the device, where those of equal shapes and dtypes lie fixed.

    The tensors returned are overwritten by the next call with arrays like these. Work on the device
    must go to the current stream, in whose order the copies run.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self._packed: dict[Layout, Packed] = {}
        self._copied: torch.cuda.Event | None = None
        self.fixed = False
        """Whether all that was returned last lies where it will lie the next time, too."""

    def __call__(self, arrays: Sequence[Array]) -> list[Tensor]:
        """The arrays on the device; tensors that are there already pass through untouched."""
        tensors = [as_tensor(array) for array in arrays]
        away = [tensor for tensor in tensors if tensor.device.type != self.device.type]
        self.fixed = len(away) == len(tensors)
        if not away:
            return tensors
        moved = iter(self._move(away))
        return [next(moved) if t.device.type != self.device.type else t for t in tensors]

    def _move(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        layout = tuple((tensor.shape, tensor.dtype) for tensor in tensors)
        if layout not in self._packed:
            self._packed[layout] = self._allocate(layout)
        packed = self._packed[layout]
        if self._copied is not None:
            self._copied.synchronize()  # long past in a loop that waits for its actions
        for tensor, view in zip(tensors, packed.host_views, strict=True):
            view.copy_(tensor)
        packed.device.copy_(packed.host, non_blocking=True)
        if self.device.type == "cuda":
            self._copied = self._copied or torch.cuda.Event()
            self._copied.record(torch.cuda.current_stream(self.device))
        return packed.device_views

    def _allocate(self, layout: Layout) -> Packed:
        ends, position = [], 0
        for shape, dtype in layout:
            size = shape.numel() * torch.empty((), dtype=dtype).element_size()
            ends.append((position, position + size))
            position += -(-size // _ALIGN) * _ALIGN
        host = torch.zeros(position, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        device = torch.zeros(position, dtype=torch.uint8, device=self.device)
        host_views, device_views = (
            [
                buffer[start:end].view(dtype).view(shape)
                for (start, end), (shape, dtype) in zip(ends, layout, strict=True)
            ]
            for buffer in (host, device)
        )
        return Packed(host, device, host_views, device_views)


def as_tensor(array: Array) -> Tensor:
    """A tensor over the same memory."""
    if isinstance(array, Tensor):
        return array
    if not array.flags.writeable:  # torch would warn, though nothing here writes to it
        array = array.copy()
    try:
        return torch.from_numpy(np.ascontiguousarray(array))
    except ValueError:  # a negative stride, which NumPy calls contiguous along an axis of one
        return torch.from_numpy(array.copy())
