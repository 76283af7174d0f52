"""Losses against the formulas of the papers, sample by sample in Python floats."""

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdqn.learning.losses import double_q_target, huber_loss, mse_loss, q_target, td_error


def plain_huber(x, delta):
    """Huber 1964, eq. in section 3."""
    return x * x / 2 if abs(x) <= delta else delta * (abs(x) - delta / 2)


def plain_argmax(values):
    return max(range(len(values)), key=lambda a: (values[a], -a))  # the first of equals


def plain_td_errors(q, action, reward, discount, next_online, next_target, *, double):
    """Q(s, a) - (r + discount Q'(s', argmax Q(s')))."""
    errors = []
    for b in range(len(q)):
        best = plain_argmax(next_online[b] if double else next_target[b])
        target = reward[b] + discount[b] * next_target[b][best]
        errors.append(q[b][action[b]] - target)
    return errors


def make_case(seed, batch, actions, dtype):
    """Python floats that are exact in ``dtype``."""
    rng = random.Random(seed)

    def exact(x):
        return torch.tensor(x, dtype=dtype).item()

    def table():
        return [[exact(rng.gauss(0, 3)) for _ in range(actions)] for _ in range(batch)]

    return {
        "q": table(),
        "action": [rng.randrange(actions) for _ in range(batch)],
        "reward": [exact(rng.gauss(0, 1)) for _ in range(batch)],
        "discount": [exact(rng.choice([0.0, 0.99, 0.99**3])) for _ in range(batch)],
        "next_online": table(),
        "next_target": table(),
        "weight": [exact(rng.random()) for _ in range(batch)],
    }


def td_errors_of(case, dtype, *, double=True):
    t = {name: torch.tensor(value, dtype=dtype) for name, value in case.items() if name != "action"}
    action = torch.tensor(case["action"])
    if double:
        args = (t["next_online"], t["next_target"], t["reward"], t["discount"])
        target = double_q_target(*args)
    else:
        target = q_target(t["next_target"], t["reward"], t["discount"])
    return td_error(t["q"], action, target), t["weight"]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize(("batch", "actions"), [(1, 2), (32, 18), (256, 6)])
@pytest.mark.parametrize("delta", [1.0, 0.3])
def test_weighted_huber_loss_is_the_formula(dtype, tolerance, double, batch, actions, delta):
    case = make_case(batch + actions, batch, actions, dtype)
    td, weight = td_errors_of(case, dtype, double=double)
    loss = (weight * huber_loss(td, delta)).mean()
    names = ("q", "action", "reward", "discount", "next_online", "next_target")
    expected_td = plain_td_errors(*(case[name] for name in names), double=double)
    expected = (
        math.fsum(
            w * plain_huber(x, delta) for w, x in zip(case["weight"], expected_td, strict=True)
        )
        / batch
    )
    assert loss.dtype == td.dtype == dtype
    assert loss.item() == pytest.approx(expected, rel=tolerance)
    # Differences cancel: their error is measured against the terms they are made of.
    scale = 1 + max(abs(x) for x in expected_td)
    assert td.tolist() == pytest.approx(expected_td, rel=tolerance, abs=tolerance * scale)


def test_the_two_targets_differ_where_the_networks_do():
    online, target = torch.tensor([[1.0, 5.0, 3.0]]), torch.tensor([[10.0, -2.0, 4.0]])
    reward, discount = torch.tensor([0.5]), torch.tensor([0.5])
    assert double_q_target(online, target, reward, discount).tolist() == [0.5 + 0.5 * -2.0]
    assert q_target(target, reward, discount).tolist() == [0.5 + 0.5 * 10.0]


def test_no_bootstrap_where_the_discount_is_zero():
    huge = torch.full((1, 2), 3e38)
    reward, discount = torch.tensor([2.0]), torch.tensor([0.0])
    assert q_target(huge, reward, discount).item() == 2.0
    assert double_q_target(huge, huge, reward, discount).item() == 2.0


def test_td_error_is_positive_where_q_is_too_high():
    q, action = torch.tensor([[1.0, 7.0], [1.0, 7.0]]), torch.tensor([1, 0])
    assert td_error(q, action, torch.tensor([5.0, 5.0])).tolist() == [2.0, -4.0]


def test_a_step_against_the_gradient_moves_q_toward_the_target():
    q = torch.tensor([[1.0, 7.0]], requires_grad=True)
    huber_loss(td_error(q, torch.tensor([1]), torch.tensor([5.0]))).sum().backward()
    assert q.grad.tolist() == [[0.0, 1.0]]  # Q(s, a) must fall; the other action is left alone


@pytest.mark.parametrize("double", [True, False])
def test_gradient_flows_only_into_q(double):
    g = torch.Generator().manual_seed(0)
    q, online, target = (
        torch.randn((4, 3), generator=g, dtype=torch.float64).requires_grad_() for _ in range(3)
    )
    reward = torch.randn(4, generator=g, dtype=torch.float64).requires_grad_()
    discount = torch.full((4,), 0.9, dtype=torch.float64, requires_grad=True)
    if double:
        y = double_q_target(online, target, reward, discount)
    else:
        y = q_target(target, reward, discount)
    assert not y.requires_grad and y.grad_fn is None
    action = torch.tensor([0, 2, 1, 1])
    td = td_error(q, action, y)
    huber_loss(td).sum().backward()
    assert all(t.grad is None for t in (online, target, reward, discount))
    for b in range(4):
        for a in range(3):
            # d huber / d td is td, clipped to [-1, 1]
            x = td[b].item()
            expected = max(-1.0, min(1.0, x)) if a == action[b] else 0.0
            assert q.grad[b, a].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("x", "delta", "expected"),
    [
        (0.0, 1.0, 0.0),
        (0.5, 1.0, 0.125),
        (-0.5, 1.0, 0.125),
        (1.0, 1.0, 0.5),
        (2.0, 1.0, 1.5),
        (-3.0, 1.0, 2.5),
        (0.5, 0.5, 0.125),
        (2.0, 0.5, 0.875),  # 0.5 (2 - 0.25)
        (-2.0, 4.0, 2.0),
        (6.0, 4.0, 16.0),  # 4 (6 - 2)
        (math.inf, 1.0, math.inf),
    ],
)
def test_huber_by_hand(x, delta, expected):
    assert huber_loss(torch.tensor([x]), delta).tolist() == [expected]


@pytest.mark.parametrize(("x", "expected"), [(0.0, 0.0), (3.0, 9.0), (-0.5, 0.25)])
def test_mse_by_hand(x, expected):
    assert mse_loss(torch.tensor([x])).tolist() == [expected]


def test_losses_are_per_sample_and_a_nan_stays_where_it_is():
    x = torch.tensor([1.0, math.nan, -3.0])
    for loss in (huber_loss(x), mse_loss(x)):
        assert loss.shape == x.shape
        assert torch.isnan(loss).tolist() == [False, True, False]


floats = st.floats(-1e6, 1e6, allow_nan=False)


@given(x=floats, delta=st.floats(1e-3, 1e3))
def test_huber_property(x, delta):
    x = torch.tensor([x], dtype=torch.float64)
    expected = plain_huber(x.item(), delta)
    assert huber_loss(x, delta).item() == pytest.approx(expected, rel=1e-12, abs=1e-300)


@settings(max_examples=50)
@given(seed=st.integers(0, 10**6), batch=st.integers(1, 8), actions=st.integers(1, 5))
def test_td_error_property(seed, batch, actions):
    case = make_case(seed, batch, actions, torch.float64)
    names = ("q", "action", "reward", "discount", "next_online", "next_target")
    expected = plain_td_errors(*(case[name] for name in names), double=True)
    td, _ = td_errors_of(case, torch.float64)
    assert td.tolist() == pytest.approx(expected, rel=1e-12, abs=1e-12)
