"""The fully connected layer is torch's, whichever library multiplies."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fastdqn.networks import onednn
from fastdqn.networks.onednn import Linear

BIG = (16, 800, 200)  # batch, in, out: more multiplications than _WORTH_IT
SMALL = (4, 5, 3)


def made(sizes, seed=0):
    torch.manual_seed(seed)
    batch, inputs, outputs = sizes
    return Linear(inputs, outputs), torch.randn(batch, inputs, requires_grad=True)


def gradients(output, layer, x):
    weights = torch.linspace(-1, 1, output.numel()).view_as(output)
    return torch.autograd.grad((output * weights).sum(), [x, layer.weight, layer.bias])


@pytest.mark.parametrize("sizes", [BIG, SMALL])
def test_values_and_gradients_are_torchs(sizes):
    layer, x = made(sizes)
    own, plain = layer(x), F.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(own, plain, rtol=1e-5, atol=1e-5)
    for a, b in zip(gradients(own, layer, x), gradients(plain, layer, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        assert a.stride() == b.stride()


@pytest.mark.skipif(not onednn._HAS_PRODUCT, reason="torch without oneDNN")
def test_only_big_float32_products_go_to_onednn(monkeypatch):
    calls = []
    product = onednn._product
    monkeypatch.setattr(onednn, "_product", lambda *a: (calls.append(a[0].dtype), product(*a))[1])
    for sizes, expected in ((SMALL, 0), (BIG, 1)):
        calls.clear()
        layer, x = made(sizes)
        layer(x)
        assert len(calls) == expected
    calls.clear()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert layer.double()(x.double()).dtype == torch.float64
    assert layer.bfloat16()(x.bfloat16()).dtype == torch.bfloat16
    assert calls == []


def test_it_compiles_whole_and_to_the_same():
    layer, x = made(BIG)
    with torch._dynamo.config.patch(trace_autograd_ops=True):
        compiled = torch.compile(
            lambda x: gradients(layer(x), layer, x), fullgraph=True, backend="aot_eager"
        )
        for a, b in zip(compiled(x), gradients(layer(x), layer, x), strict=True):
            torch.testing.assert_close(a, b)


def test_a_frozen_input_gets_no_gradient():
    layer, x = made(BIG)
    layer(x.detach()).sum().backward()
    assert layer.weight.grad is not None
    assert x.grad is None


def test_slices_reach_onednn_in_one_piece(monkeypatch):
    """Of a slice it makes the weight's gradient by a loop of its own, 2,000 times slower."""
    real, seen = onednn._product, []
    monkeypatch.setattr(onednn, "_product", lambda *args: (seen.append(args[:2]), real(*args))[1])
    g = torch.Generator().manual_seed(0)
    halves = torch.randn(32, 512, generator=g, requires_grad=True)
    layer = Linear(256, 512)
    output = layer(halves[:, 256:])
    slopes = torch.randn(32, 1024, generator=g)[:, ::2]
    found = torch.autograd.grad(output, (halves, layer.weight, layer.bias), slopes)
    assert len(seen) == 3
    assert all(x.is_contiguous() or x.t().is_contiguous() for pair in seen for x in pair)
    plain = torch.nn.functional.linear(halves[:, 256:], layer.weight, layer.bias)
    wanted = torch.autograd.grad(plain, (halves, layer.weight, layer.bias), slopes)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
