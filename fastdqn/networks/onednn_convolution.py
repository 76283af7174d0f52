"""A convolution and its ReLU as one oneDNN primitive on a CPU.

Sums, bias and ReLU leave the processor's registers once; as three torch operations each writes the
whole activation and reads it again. Layout: channels_last, in which convolutions of so few channels
run up to three times as fast.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastdqn.networks.exporting import is_exporting

_HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(
    torch.ops.mkldnn, "_convolution_pointwise"
)
_DTYPES = {torch.float32} | (
    {torch.bfloat16} if _HAS_ONEDNN and torch.ops.mkldnn._is_mkldnn_bf16_supported() else set()
)


def has_conv_relu(device_type: str, dtype: torch.dtype) -> bool:
    """Whether :func:`conv_relu` runs there, outside of autocast, on weights of that dtype.

    Not while the network is exported: other programs do not know the operator.
    """
    return (
        _HAS_ONEDNN
        and device_type == "cpu"
        and dtype in _DTYPES
        and bool(torch.backends.mkldnn.enabled)
        and not torch.is_autocast_enabled("cpu")
        and not is_exporting()
    )


def conv_relu(x: Tensor, weight: Tensor, bias: Tensor, stride: tuple[int, int]) -> Tensor:
    """``relu(conv2d(x, weight) + bias)``, channels_last, without padding.

    Args:
        x: [B, C, H, W], channels_last, of the weight's dtype.
        weight: [D, C, *kernel].
        bias: [D].
        stride: Of rows and columns.
    """
    return _ConvReLU.apply(x, weight, bias, stride)


# An operator of our own around oneDNN's: Inductor takes the latter's weights for constants.
_library = torch.library.Library("fastdqn", "FRAGMENT")
_library.define("onednn_conv_relu(Tensor x, Tensor weight, Tensor bias, int[] stride) -> Tensor")


@torch.library.impl(_library, "onednn_conv_relu", "CPU")
def _onednn_conv_relu(x: Tensor, weight: Tensor, bias: Tensor, stride: list[int]) -> Tensor:
    return torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, [0, 0], stride, [1, 1], 1, "relu", [], ""
    )


@torch.library.register_fake("fastdqn::onednn_conv_relu", lib=_library)
def _fake_conv_relu(x: Tensor, weight: Tensor, bias: Tensor, stride: list[int]) -> Tensor:
    size = [
        (pixels - kernel) // step + 1
        for pixels, kernel, step in zip(x.shape[2:], weight.shape[2:], stride, strict=True)
    ]
    shape = (x.shape[0], weight.shape[0], *size)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


class _ConvReLU(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: tuple[int, int]
    ) -> Tensor:
        y = torch.ops.fastdqn.onednn_conv_relu(x, weight, bias, stride)
        ctx.save_for_backward(x, weight, y)
        ctx.stride = stride
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight, y = ctx.saved_tensors
        gradient = torch.ops.aten.threshold_backward(gradient, y, 0)
        return *torch.ops.aten.convolution_backward(
            gradient,
            x,
            weight,
            [weight.shape[0]],
            ctx.stride,
            [0, 0],
            [1, 1],
            False,
            [0, 0],
            1,
            ctx.needs_input_grad[:3],
        ), None
