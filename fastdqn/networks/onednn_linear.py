"""A fully connected layer that takes the faster library on a CPU.

torch sends float32 matrix products to MKL, which runs at half of oneDNN's speed on AMD's CPUs: the
hidden layer of the Nature network (3136 to 512, batch 32) took 1.33 ms forward and 3.09 ms backward
there, and 0.63 and 1.12 ms with oneDNN (one thread, EPYC, torch 2.13). Small products go the usual
way, for oneDNN costs 10 us more to call.
"""

from __future__ import annotations

import platform
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fastdqn.networks.exporting import is_exporting

_WORTH_IT = 2_000_000  # multiplications
_HAS_ONEDNN = (
    platform.machine() in ("x86_64", "AMD64")
    and torch.backends.mkldnn.is_available()
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)


class Linear(nn.Linear):
    """``x W^T + b``, [B, in] to [B, out]; parameters as torch.nn.Linear."""

    def forward(self, input: Tensor) -> Tensor:
        """[B, in] to [B, out]."""
        return linear(input, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``x weight^T + bias``, as torch.nn.functional.linear."""
    if (
        _HAS_ONEDNN
        and not is_exporting()
        and x.shape[0] * weight.numel() >= _WORTH_IT
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.dim() == 2
        and not torch.is_autocast_enabled("cpu")
    ):
        return _OneDNN.apply(x, weight, bias)
    return F.linear(x, weight, bias)


# An operator of our own around oneDNN's: Inductor takes the latter's weights for constants.
_library = torch.library.Library("fastdqn", "FRAGMENT")
_library.define("onednn_product(Tensor x, Tensor weight, Tensor? bias) -> Tensor")


@torch.library.impl(_library, "onednn_product", "CPU")
def _onednn_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


@torch.library.register_fake("fastdqn::onednn_product", lib=_library)
def _fake_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x weight^T + bias`` by oneDNN."""
    return torch.ops.fastdqn.onednn_product(x, weight, bias)


class _OneDNN(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        need = ctx.needs_input_grad
        return (
            _product(gradient, weight.t()) if need[0] else None,
            _product(gradient.t(), x.t()) if need[1] else None,
            gradient.sum(dim=0) if need[2] else None,
        )
