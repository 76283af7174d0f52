"""What oneDNN does faster on a CPU than the way torch takes: big products, and convolutions.

**Products.** torch sends float32 matrix products to MKL, which runs at half of oneDNN's speed on
AMD's CPUs: the hidden layer of the Nature network (3136 to 512, batch 32) took 1.33 ms forward and
3.09 ms backward there, and 0.63 and 1.12 ms with oneDNN (one thread, EPYC, torch 2.13). Small
products go the usual way, for oneDNN costs 10 us more to call.

**A convolution, its bias and its ReLU** leave the processor's registers once; as three torch
operations each writes the whole activation and reads it again. Layout: channels_last, in which
convolutions of so few channels run up to three times as fast.

**Published DQNs' networks** from such convolutions, whole.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from fastdqn.networks.strided_cnn import StridedCNN

_WORTH_IT = 2_000_000  # multiplications of a product
_HAS_PRODUCT = (
    platform.machine() in ("x86_64", "AMD64")
    and torch.backends.mkldnn.is_available()
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)
_HAS_CONVOLUTION = torch.backends.mkldnn.is_available() and hasattr(
    torch.ops.mkldnn, "_convolution_pointwise"
)
_CONVOLUTION_DTYPES = {torch.float32} | (
    {torch.bfloat16} if _HAS_CONVOLUTION and torch.ops.mkldnn._is_mkldnn_bf16_supported() else set()
)

# Operators of our own around oneDNN's: Inductor takes the latter's weights for constants.
_library = torch.library.Library("fastdqn", "FRAGMENT")


def is_exporting() -> bool:
    """Whether torch.export, a trace or an ONNX exporter is looking on.

    They know torch's own operators only, and take a choice made by the batch's size for a limit
    to it. torch.compile is none of them.
    """
    return torch.compiler.is_exporting() or torch.jit.is_tracing()


# --- products ------------------------------------------------------------------------------------


class Linear(nn.Linear):
    """``x W^T + b``, [B, in] to [B, out]; parameters as torch.nn.Linear."""

    def forward(self, input: Tensor, randoms: Any = None) -> Tensor:
        """[B, in] to [B, out]; ``randoms`` are for a layer with noise in its place."""
        return linear(input, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``x weight^T + bias``, as torch.nn.functional.linear."""
    if (
        _HAS_PRODUCT
        and not is_exporting()
        and x.shape[0] * weight.numel() >= _WORTH_IT
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.dim() == 2
        and not torch.is_autocast_enabled("cpu")
    ):
        if torch.is_grad_enabled():
            return _Product.apply(x, weight, bias)
        return _product(x, weight, bias)  # what autograd wraps around it takes 3 us
    return F.linear(x, weight, bias)


_library.define("onednn_product(Tensor x, Tensor weight, Tensor? bias) -> Tensor")


@torch.library.impl(_library, "onednn_product", "CPU")
def _onednn_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


@torch.library.register_fake("fastdqn::onednn_product", lib=_library)
def _fake_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x weight^T + bias`` by oneDNN."""
    if torch.compiler.is_compiling():
        return torch.ops.fastdqn.onednn_product(x, weight, bias)
    return _onednn_product(x, weight, bias)  # a Python operator's call takes 2 us


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:  # type: ignore[override]
        x = x.contiguous()  # of a slice oneDNN makes the weight's gradient 2,000 times slower
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        need = ctx.needs_input_grad
        return (
            _product(gradient, weight.t()) if need[0] else None,
            _product(gradient.t(), x.t()) if need[1] else None,
            gradient.sum(dim=0) if need[2] else None,
        )


# --- convolutions --------------------------------------------------------------------------------


def has_conv_relu(device_type: str, dtype: torch.dtype) -> bool:
    """Whether :func:`conv_relu` runs there, outside of autocast, on weights of that dtype.

    Not while the network is exported: other programs do not know the operator.
    """
    return (
        _HAS_CONVOLUTION
        and device_type == "cpu"
        and dtype in _CONVOLUTION_DTYPES
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
    if torch.is_grad_enabled():
        return _ConvReLU.apply(x, weight, bias, stride)
    return _conv_relu(x, weight, bias, stride)


_library.define("onednn_conv_relu(Tensor x, Tensor weight, Tensor bias, int[] stride) -> Tensor")


@torch.library.impl(_library, "onednn_conv_relu", "CPU")
def _onednn_conv_relu(x: Tensor, weight: Tensor, bias: Tensor, stride: Sequence[int]) -> Tensor:
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


def _conv_relu(x: Tensor, weight: Tensor, bias: Tensor, stride: tuple[int, int]) -> Tensor:
    if torch.compiler.is_compiling():
        return torch.ops.fastdqn.onednn_conv_relu(x, weight, bias, stride)
    return _onednn_conv_relu(x, weight, bias, stride)


class _ConvReLU(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: tuple[int, int]
    ) -> Tensor:
        y = _conv_relu(x, weight, bias, stride)
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


# --- networks of convolutions with strides -------------------------------------------------------


def strided_features(torso: StridedCNN, observation: Tensor) -> Tensor:
    """What a torso's forward returns, each convolution with its bias and ReLU in one pass.

    Args:
        torso: Whose layers; :func:`has_conv_relu` holds for their dtype.
        observation: [B, C, H, W], uint8 or floats, on a CPU.

    Returns:
        [B, features]: float32 for bytes, else of the weights' dtype.
    """
    bytewise = observation.dtype == torch.uint8
    x = strided_convolutions(torso, observation)
    hidden = torso.hidden
    bias = hidden.bias * 255 if bytewise else hidden.bias
    features = F.relu(linear(x.flatten(1), hidden.weight, bias))
    return features.float() / 255 if bytewise else features


def strided_convolutions(torso: StridedCNN, observation: Tensor) -> Tensor:
    """What a torso's convolutions make of an observation, [B, D, I, J]; of bytes 255 times that.

    Layers without biases commute with a positive factor, so 0..255 stays as it is up to the
    features: the biases are scaled instead of the activations.
    """
    first, *rest = torso.convolutions
    weight, stride = first.weight, first.stride
    bytewise = observation.dtype == torch.uint8
    observation = torso.bordered(observation, 0)
    wordwise = stride == (4, 4) and weight.shape[3] % 4 == 0
    if bytewise and wordwise and _has_words(observation):
        x, weight, stride = *_four_columns(observation, weight), (4, 1)
    else:
        # Two passes: bytes that change type and place in one take 1.6 to 2.5 times as long.
        x = observation.to(weight.dtype).contiguous(memory_format=torch.channels_last)
    biases = cast("list[Tensor]", [layer.bias for layer in (first, *rest)])
    if bytewise:
        biases = [bias * 255 for bias in biases]
    x = conv_relu(x, weight, biases[0], cast("tuple[int, int]", stride))
    for number, layer in enumerate(rest, 1):
        x = torso.bordered(x, number).contiguous(memory_format=torch.channels_last)
        x = conv_relu(x, layer.weight, biases[number], cast("tuple[int, int]", layer.stride))
    return x


def _has_words(frames: Tensor) -> bool:
    """Whether the rows of bytes, [B, C, H, W], are whole 32-bit words."""
    # What gets compiled cannot ask for offsets; the replay's are whole frames.
    aligned = torch.compiler.is_compiling() or frames.storage_offset() % 4 == 0
    return aligned and frames.shape[3] % 4 == 0


def _four_columns(frames: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Frames and weights of a convolution with stride 4 as those of one with strides 4 and 1.

    Four pixels side by side become four channels, which are one 32-bit word to move; pixel by pixel
    the change to channels_last takes twice as long.

    Args:
        frames: uint8 [B, C, H, W], W a multiple of 4.
        weight: [D, C, K, L], L a multiple of 4.

    Returns:
        [B, 4 C, H, W / 4], of the weight's dtype, and [D, 4 C, K, L / 4]; channels_last.
    """
    batch, channels, height, width = frames.shape
    words = frames.contiguous().view(batch, channels, height * width).view(torch.int32)
    pixels = words.transpose(1, 2).reshape(-1).view(torch.uint8).to(weight.dtype)
    x = pixels.view(batch, height, width // 4, 4 * channels).permute(0, 3, 1, 2)
    outputs, _, rows, columns = weight.shape
    w = weight.view(outputs, channels, rows, columns // 4, 4).permute(0, 2, 3, 1, 4)
    return x, w.reshape(outputs, rows, columns // 4, 4 * channels).permute(0, 3, 1, 2)
