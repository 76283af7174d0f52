"""A module's parameters as views into one flat buffer.

One optimizer kernel, one copy for a target sync, one all-reduce: on a small network the number of
launches is the cost. Convolution weights lie in the buffer channels_last, as the kernels want
them, and each parameter starts at a multiple of 256 bytes, for vectorised loads. The flat layout is
private: checkpoints hold canonical shapes by name.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastdqn.networks.checks import check_parameters

_ALIGN = 64  # elements


class FlatParameters:
    """Moves every parameter of ``module`` into ``self.data`` and keeps them there as views."""

    def __init__(self, module: nn.Module) -> None:
        check_parameters(module)
        self.parameters = list(module.parameters())
        self.names = [name for name, _ in module.named_parameters()]
        sizes = [parameter.numel() for parameter in self.parameters]
        gaps = [-size % _ALIGN for size in sizes]
        self._chunks = [size for pair in zip(sizes, gaps, strict=True) for size in pair]
        self._gaps = [self.parameters[0].new_zeros(gap) for gap in gaps]
        self.data = self.pack([parameter.detach() for parameter in self.parameters])
        for parameter, view in zip(self.parameters, self.views(self.data), strict=True):
            parameter.data = view

    def views(self, flat: Tensor) -> list[Tensor]:
        """Any tensor of the same layout (gradients, moments) in canonical shapes."""
        chunks = flat.split(self._chunks)[::2]
        return [
            _canonical(chunk, parameter.shape)
            for chunk, parameter in zip(chunks, self.parameters, strict=True)
        ]

    def named_views(self, flat: Tensor) -> dict[str, Tensor]:
        """The same by parameter name."""
        return dict(zip(self.names, self.views(flat), strict=True))

    def pack(self, tensors: Sequence[Tensor]) -> Tensor:
        """Canonical tensors, one per parameter, as one flat one; pure, zeros between them."""
        parts = [
            part
            for tensor, gap in zip(tensors, self._gaps, strict=True)
            for part in (_storage_order(tensor), gap)
        ]
        return torch.cat(parts)


def _storage_order(tensor: Tensor) -> Tensor:
    """Flat, channels last for convolution weights; a view where it lies so already."""
    return (tensor.permute(0, 2, 3, 1) if tensor.dim() == 4 else tensor).reshape(-1)


def _canonical(chunk: Tensor, shape: torch.Size) -> Tensor:
    if len(shape) != 4:
        return chunk.view(shape)
    out, channels, height, width = shape
    return chunk.view(out, height, width, channels).permute(0, 3, 1, 2)
