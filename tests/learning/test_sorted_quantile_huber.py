"""The quantile Huber loss by sorting is the one by pairs: values, gradients, ties, extremes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdqn.learning import distribution_losses, sorted_quantile_huber
from fastdqn.learning.distribution_losses import quantile_huber_loss
from fastdqn.learning.sorted_quantile_huber import sorted_quantile_huber_loss


def by_pairs(quantiles, target, fractions, delta, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(distribution_losses, "pays", lambda *_: False)
        return quantile_huber_loss(quantiles, target, fractions, delta)


def compared(quantiles, target, fractions, delta, monkeypatch):
    """Loss and gradient of both."""
    found = []
    for loss_of in (
        sorted_quantile_huber_loss,
        lambda *args: by_pairs(*args, monkeypatch),
    ):
        leaf = quantiles.clone().requires_grad_()
        loss = loss_of(leaf, target, fractions, delta)
        weight = torch.arange(1.0, len(loss) + 1, dtype=loss.dtype)
        found.append((loss.detach(), torch.autograd.grad((weight * loss).sum(), leaf)[0]))
    return found


@given(
    st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 9), st.integers(1, 9),
    st.sampled_from([0.1, 0.125, 1.0, 3.0]), st.booleans(), st.booleans(),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_it_is_the_loss_by_pairs(seed, batch, n, m, delta, of_rows, with_ties):
    g = torch.Generator().manual_seed(seed)
    quantiles = 3 * torch.randn(batch, n, generator=g, dtype=torch.float64)
    target = 3 * torch.randn(batch, m, generator=g, dtype=torch.float64)
    if with_ties:  # also u = 0 and |u| = delta
        quantiles, target = quantiles.round(), target.round()
    fractions = torch.rand((batch, n) if of_rows else (n,), generator=g, dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        (loss, slope), (wanted, wanted_slope) = compared(quantiles, target, fractions, delta, patch)
    torch.testing.assert_close(loss, wanted, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(slope, wanted_slope, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("offset", [0.0, 100.0, -3e6])
def test_far_from_zero_in_float32_it_is_as_exact(offset, monkeypatch):
    g = torch.Generator().manual_seed(0)
    quantiles = torch.randn(32, 200, generator=g) * 0.3 + offset
    target = torch.randn(32, 130, generator=g) * 0.3 + offset
    fractions = (torch.arange(200) + 0.5) / 200
    assert sorted_quantile_huber.pays(quantiles, target)
    (loss, slope), _ = compared(quantiles, target, fractions, 1.0, monkeypatch)
    _, (wanted, wanted_slope) = compared(
        quantiles.double(), target.double(), fractions.double(), 1.0, monkeypatch
    )
    torch.testing.assert_close(loss.double(), wanted, rtol=1e-6, atol=0)
    torch.testing.assert_close(slope.double(), wanted_slope, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("delta", [0.1, 0.3, 1e39])
def test_a_delta_that_float32_does_not_hold_is_as_exact(delta, monkeypatch):
    g = torch.Generator().manual_seed(2)
    quantiles, target = 3 * torch.randn(2, 4, 30, generator=g, dtype=torch.float64)
    fractions = torch.rand(30, generator=g, dtype=torch.float64)
    found, expected = compared(quantiles, target, fractions, delta, monkeypatch)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12 / max(1.0, delta))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_stays_so(bad):
    quantiles, target = torch.zeros(2, 3), torch.zeros(2, 4)
    target[1, 2] = bad
    loss = sorted_quantile_huber_loss(quantiles, target, torch.full((3,), 0.5), 1.0)
    assert loss[0] == 0 and not loss[1].isfinite()
    quantiles[0, 1] = bad
    loss = sorted_quantile_huber_loss(quantiles, torch.zeros(2, 4), torch.full((3,), 0.5), 1.0)
    assert loss[1] == 0 and not loss[0].isfinite()


def test_small_ones_go_by_pairs():
    assert not sorted_quantile_huber.pays(torch.zeros(32, 64), torch.zeros(32, 64))


@pytest.mark.parametrize("fault", ["no far left", "edges in float order", "no half"])
def test_a_fault_in_a_piece_is_found(fault, monkeypatch):
    real = torch.searchsorted
    calls = []

    def wrong(y, values):
        calls.append(1)
        edge = real(y, values)
        if fault == "no far left":
            return edge * 0 if len(calls) == 1 else edge
        if fault == "edges in float order":
            return real(y, values, right=True).clamp(max=y.shape[1] - 1)
        return (edge + 1).clamp(max=y.shape[1]) if len(calls) == 2 else edge

    monkeypatch.setattr(torch, "searchsorted", wrong)
    g = torch.Generator().manual_seed(1)
    quantiles, target = torch.randn(2, 3, 8, generator=g, dtype=torch.float64) * 2
    (loss, _), (wanted, _) = compared(
        quantiles, target, torch.rand(8, generator=g, dtype=torch.float64), 1.0, monkeypatch
    )
    assert not torch.allclose(loss, wanted, rtol=1e-6)
