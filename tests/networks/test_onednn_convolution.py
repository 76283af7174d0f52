"""A convolution with its ReLU in one primitive is torch's two operations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fastdqn.networks.onednn import conv_relu, has_conv_relu

DTYPES = [
    pytest.param(
        dtype,
        marks=pytest.mark.skipif(
            not has_conv_relu("cpu", dtype), reason="torch or CPU without oneDNN for it"
        ),
    )
    for dtype in (torch.float32, torch.bfloat16)
]


def made(dtype, *, batch=3, size=(11, 13), kernel=(4, 3), seed=0):
    torch.manual_seed(seed)
    x = torch.randn(batch, 5, *size).to(dtype).contiguous(memory_format=torch.channels_last)
    tensors = x, torch.randn(6, 5, *kernel).to(dtype), torch.randn(6).to(dtype)
    return [tensor.requires_grad_() for tensor in tensors]


def plain(x, weight, bias, stride):
    return F.relu(F.conv2d(x, weight, bias, stride=stride))


def gradients(output, tensors):
    weights = torch.linspace(-1, 1, output.numel()).view(output.shape).to(output.dtype)
    return torch.autograd.grad((output * weights).sum(), tensors)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stride", [(1, 1), (3, 1), (2, 2)])
def test_values_and_gradients_are_torchs(dtype, stride):
    tensors = made(dtype)
    doubled = [tensor.detach().double().requires_grad_() for tensor in tensors]
    own, expected = conv_relu(*tensors, stride), plain(*doubled, stride)
    assert own.dtype == dtype and 0.2 < (own == 0).double().mean() < 0.8
    assert own.is_contiguous(memory_format=torch.channels_last)
    tolerance = (
        {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 0.1}
    )
    torch.testing.assert_close(own.double(), expected, **tolerance)
    for a, b in zip(gradients(own, tensors), gradients(expected, doubled), strict=True):
        assert a.dtype == dtype
        assert (a.double() - b).norm() < tolerance["rtol"] * b.norm()


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_compiles_whole_and_to_the_same(dtype):
    tensors = made(dtype)
    with torch._dynamo.config.patch(trace_autograd_ops=True):
        compiled = torch.compile(
            lambda *t: gradients(conv_relu(*t, (2, 2)), t), fullgraph=True, backend="aot_eager"
        )
        expected = gradients(conv_relu(*tensors, (2, 2)), tensors)
        for a, b in zip(compiled(*tensors), expected, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [{}, {"batch": 1}, {"size": (4, 3)}])
def test_the_shape_told_to_the_compiler_is_the_one_that_comes(dtype, sizes):
    tensors = [tensor.detach() for tensor in made(dtype, **sizes)]
    torch.library.opcheck(torch.ops.fastdqn.onednn_conv_relu.default, (*tensors, [2, 1]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_frozen_gets_no_gradient(dtype):
    x, weight, bias = made(dtype)
    conv_relu(x.detach(), weight, bias, (1, 1)).sum().backward()
    assert x.grad is None and weight.grad is not None and bias.grad is not None
    with torch.no_grad():
        assert not conv_relu(x, weight, bias, (1, 1)).requires_grad


def test_where_it_runs(monkeypatch):
    assert not has_conv_relu("cuda", torch.float32)
    assert not has_conv_relu("cpu", torch.float64)
    usual = has_conv_relu("cpu", torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not has_conv_relu("cpu", torch.float32)
    assert has_conv_relu("cpu", torch.float32) == usual
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    assert not has_conv_relu("cpu", torch.float32)
