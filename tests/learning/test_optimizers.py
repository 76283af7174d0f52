"""The optimizers against torch.optim's, and by hand."""

from __future__ import annotations

import math

import pytest
import torch

from fastdqn.errors import ConfigError
from fastdqn.learning.optimizers import Adam, RMSprop, make_optimizer

SIZE, STEPS = 300, 50


def gradients(seed=0):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(SIZE, generator=g) * 10 ** (i % 5 - 2) for i in range(STEPS)]


def follow(ours, theirs, parameter, reference):
    for gradient in gradients():
        ours.step(gradient.clone())
        reference.grad = gradient.clone()
        theirs.step()
    torch.testing.assert_close(parameter, reference.detach(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("epsilon", [1e-8, 1.5e-4])
def test_adam_is_torchs(epsilon):
    parameter = torch.linspace(-1, 1, SIZE)
    reference = torch.nn.Parameter(parameter.clone())
    theirs = torch.optim.Adam([reference], lr=1e-2, eps=epsilon)
    follow(Adam(parameter, 1e-2, epsilon), theirs, parameter, reference)


def test_plain_rmsprop_is_torchs():
    parameter = torch.linspace(-1, 1, SIZE)
    reference = torch.nn.Parameter(parameter.clone())
    theirs = torch.optim.RMSprop([reference], lr=1e-2, alpha=0.9, eps=1e-3)
    ours = RMSprop(parameter, 1e-2, 0.9, 1e-3, centred=False)
    follow(ours, theirs, parameter, reference)


def test_adams_first_step_by_hand():
    # m = 0.1 g and v = 0.001 g^2, divided by 0.1 and 0.001: the step is lr g / (|g| + eps).
    parameter = torch.tensor([1.0, 1.0])
    Adam(parameter, 0.5, 1.0).step(torch.tensor([3.0, -1.0]))
    assert parameter.tolist() == pytest.approx([1 - 0.5 * 3 / 4, 1 + 0.5 * 1 / 2])


def test_centred_rmsprop_by_hand():
    # alpha 0.75, g = 4 twice: v = 4, 7; m = 1, 1.75; v - m^2 = 3, 3.9375.
    parameter = torch.tensor([10.0])
    optimizer = RMSprop(parameter, 1.0, 0.75, 1.0)
    optimizer.step(torch.tensor([4.0]))
    assert parameter.item() == pytest.approx(10 - 4 / math.sqrt(3 + 1))
    optimizer.step(torch.tensor([4.0]))
    assert parameter.item() == pytest.approx(10 - 4 / 2 - 4 / math.sqrt(3.9375 + 1))


def test_centred_rmsprop_survives_a_constant_gradient():
    """Rounding makes v - m^2 negative there."""
    parameter = torch.zeros(1_000)
    optimizer = RMSprop(parameter, 1e-3, 0.95, 1e-6)
    for _ in range(2_000):
        optimizer.step(torch.linspace(-3, 3, 1_000))
    assert torch.isfinite(parameter).all()


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_the_learning_rate_changes(name):
    parameter = torch.zeros(3)
    optimizer = make_optimizer(
        name, parameter, 0.1, epsilon=1e-8, rmsprop_alpha=0.9, rmsprop_centred=True
    )
    optimizer.set_learning_rate(0.0)
    optimizer.step(torch.ones(3))
    assert not parameter.any()
    optimizer.set_learning_rate(0.5)
    optimizer.step(torch.ones(3))
    assert parameter.all()


def test_a_zero_gradient_moves_nothing():
    for name in ("adam", "rmsprop"):
        parameter = torch.ones(3)
        options = {"epsilon": 1e-8, "rmsprop_alpha": 0.9, "rmsprop_centred": True}
        make_optimizer(name, parameter, 0.1, **options).step(torch.zeros(3))
        assert parameter.tolist() == [1, 1, 1]


def test_an_unknown_name_is_refused():
    with pytest.raises(ConfigError, match="optimizer = 'sgd' must be one of adam, rmsprop"):
        make_optimizer(
            "sgd", torch.zeros(1), 0.1, epsilon=0.1, rmsprop_alpha=0.9, rmsprop_centred=True
        )
