"""Quantile fractions as features, against the formula of the paper in Python floats."""

import math

import pytest
import torch
from helpers import menu_oracle

from fastdqn.networks.cosine_embedding import CosineEmbedding


def embedding(features=3, cosines=4, first=1, dtype=torch.float64, **options):
    torch.manual_seed(0)
    return CosineEmbedding(features, cosines, first=first, **options).to(dtype)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(("batch", "samples"), [(1, 1), (1, 5), (4, 3)])
@pytest.mark.parametrize("cosines", [1, 64])
def test_it_is_the_formula(first, batch, samples, cosines):
    made = embedding(cosines=cosines, first=first)
    g = torch.Generator().manual_seed(batch)
    tau = torch.rand((batch, samples), generator=g, dtype=torch.float64)
    found = made(tau)
    assert found.shape == (batch * samples, 3)
    parameters = (made.linear.weight.tolist(), made.linear.bias.tolist())
    for row, fraction in zip(found.tolist(), tau.flatten().tolist(), strict=True):
        expected = menu_oracle.cosine_features(fraction, *parameters, first)
        assert row == pytest.approx(expected, rel=1e-6, abs=1e-9)
    single = embedding(cosines=cosines, first=first, dtype=torch.float32)(tau.float())
    torch.testing.assert_close(single.double(), found, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("first", "tau", "expected"),
    [
        # cos(pi i tau) for i = first, first + 1, weighted by 1 and 10
        (0, 0.0, 11.0),
        (0, 1.0, 1.0 - 10.0),
        (0, 0.5, 1.0 + 0.0),
        (1, 0.0, 11.0),
        (1, 1.0, -1.0 + 10.0),
        (1, 0.5, 0.0 - 10.0),
        (1, 0.25, math.sqrt(0.5) + 0.0),
    ],
)
def test_by_hand(first, tau, expected):
    made = embedding(features=2, cosines=2, first=first)
    with torch.no_grad():
        made.linear.weight.copy_(torch.tensor([[1.0, 10.0], [-1.0, -10.0]]))
        made.linear.bias.copy_(torch.tensor([0.0, 0.5]))
    wanted = [max(0.0, expected), max(0.0, 0.5 - expected)]
    found = made(torch.tensor([[tau]], dtype=torch.float64))[0].tolist()
    assert found == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_rows_follow_one_another():
    made = embedding()
    tau = torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], dtype=torch.float64)
    alone = torch.cat([made(tau[b : b + 1]) for b in range(3)])
    assert torch.equal(made(tau), alone)


@pytest.mark.parametrize(
    ("cvar", "expected"),
    [(1.0, [0.125, 0.375, 0.625, 0.875]), (0.5, [0.0625, 0.1875, 0.3125, 0.4375])],
)
def test_fractions_to_act_by_are_midpoints(cvar, expected):
    made = CosineEmbedding(3, samples=4, cvar=cvar)
    found = made.to_act_by(2, torch.device("cpu"))
    assert found.tolist() == [expected, expected]


def test_gradients_are_those_of_finite_differences():
    made = embedding()
    with torch.no_grad():
        made.linear.bias.add_(torch.tensor([0.5, -0.2, 0.3]))
    tau = torch.rand((2, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(made, (tau.requires_grad_(),))


def test_in_bfloat16_the_cosines_are_still_those_of_the_fraction():
    # 64 pi tau in bfloat16 would be off by whole turns.
    made = embedding(cosines=64, dtype=torch.bfloat16)
    tau = torch.rand((2, 8), generator=torch.Generator().manual_seed(0))
    found = made(tau)
    assert found.dtype == torch.bfloat16
    exact = made.double()(tau.double())
    torch.testing.assert_close(found.double(), exact, rtol=0.02, atol=0.02)
