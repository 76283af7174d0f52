"""Munchausen's soft policies against the formulas in Python floats, and their limits."""

import math
import random

import pytest
import torch
from helpers import menu_oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdqn.errors import ConfigError
from fastdqn.learning.munchausen import (
    Munchausen,
    munchausen_bonus,
    scaled_log_policy,
    soft_value,
)


def doubles(values):
    return torch.tensor(values, dtype=torch.float64)


def oracle_bonus(q, action, alpha, temperature, clip):
    soft = {"alpha": alpha, "temperature": temperature, "clip": clip}
    return menu_oracle.bonus(q, action, soft)


# --- by hand -------------------------------------------------------------------------------------

LOG3, LOG4 = math.log(3), math.log(4)
Q = [0.0, LOG3]  # pi is (1/4, 3/4) at temperature 1
HALF = [0.0, LOG3 / 2]  # and of these at 1/2


def test_the_log_policy_by_hand():
    found = scaled_log_policy(doubles([Q]), 1.0)
    assert found.tolist() == [pytest.approx([-LOG4, LOG3 - LOG4], rel=1e-12)]
    found = scaled_log_policy(doubles([HALF]), 0.5)
    assert found.tolist() == [pytest.approx([-LOG4 / 2, (LOG3 - LOG4) / 2], rel=1e-12)]


@pytest.mark.parametrize(
    ("q", "action", "temperature", "alpha", "clip", "expected"),
    [
        (Q, 1, 1.0, 0.9, -1.0, 0.9 * (LOG3 - LOG4)),
        (Q, 0, 1.0, 0.9, -1.0, -0.9),  # log(1/4) is below -1
        (Q, 0, 1.0, 0.9, -2.0, -0.9 * LOG4),
        # The clip is of t log pi: half of log(1/4) is not below -1, which log(1/4) is.
        (HALF, 0, 0.5, 0.9, -1.0, -0.45 * LOG4),
        (Q, 0, 1.0, 0.0, -1.0, 0.0),
        (Q, 0, 1.0, 0.5, 0.0, 0.0),
    ],
)
def test_the_bonus_by_hand(q, action, temperature, alpha, clip, expected):
    found = munchausen_bonus(
        doubles([q]), torch.tensor([action]), alpha=alpha, temperature=temperature, clip=clip
    )
    assert found.item() == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_the_soft_value_by_hand():
    # pi = (1/4, 3/4): the mean of (8, 4) is 5; the entropy of pi is log 4 - 3/4 log 3
    entropy = LOG4 - 0.75 * LOG3
    found = soft_value(doubles([Q]), doubles([[8.0, 4.0]]), 1.0)
    assert found.tolist() == [pytest.approx(5 + entropy, rel=1e-12)]
    found = soft_value(doubles([HALF]), doubles([[8.0, 4.0]]), 0.5)
    assert found.tolist() == [pytest.approx(5 + entropy / 2, rel=1e-12)]
    # Of distributions quantile by quantile, the whole entropy added to each.
    quantiles = doubles([[[8.0, 0.0, 4.0], [4.0, 4.0, 0.0]]])
    found = soft_value(doubles([Q]), quantiles, 1.0)
    expected = [5 + entropy, 3 + entropy, 1 + entropy]
    assert found.tolist() == [pytest.approx(expected, rel=1e-12)]


def test_of_its_own_q_the_soft_value_is_the_log_of_a_sum():
    # sum pi (q - t log pi) = t log sum exp(q / t): two terms of one formula
    q = torch.randn(9, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for t in (0.03, 0.5, 7.0):
        expected = t * (q / t).logsumexp(1)
        torch.testing.assert_close(soft_value(q, q, t), expected, rtol=1e-12, atol=1e-12)


# --- against the formulas ------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    batch=st.integers(1, 5),
    actions=st.integers(1, 5),
    quantiles=st.integers(1, 4),
    temperature=st.sampled_from([0.03, 0.5, 3.0]),
    clip=st.sampled_from([-1.0, -0.1, -5.0]),
    ties=st.booleans(),
)
def test_they_are_the_formulas(seed, batch, actions, quantiles, temperature, clip, ties):
    rng = random.Random(seed)
    q = [[rng.gauss(0, 1) for _ in range(actions)] for _ in range(batch)]
    if ties:
        q = [[round(x) for x in row] for row in q]
    action = [rng.randrange(actions) for _ in range(batch)]
    values = [
        [[rng.gauss(0, 2) for _ in range(quantiles)] for _ in range(actions)] for _ in range(batch)
    ]
    table = doubles(q)
    found = munchausen_bonus(table, torch.tensor(action), 0.7, temperature, clip)
    expected = [oracle_bonus(*row, 0.7, temperature, clip) for row in zip(q, action, strict=True)]
    assert found.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    found = soft_value(table, doubles(values), temperature)
    for b, row in enumerate(found.tolist()):
        wanted = [
            menu_oracle.soft_value(q[b], [values[b][a][j] for a in range(actions)], temperature)
            for j in range(quantiles)
        ]
        assert row == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    scalar = soft_value(table, doubles(values)[:, :, 0], temperature)
    torch.testing.assert_close(scalar, found[:, 0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6])
def test_in_float32_nothing_overflows_at_the_published_temperature(scale):
    q = scale * torch.tensor([[10.0, -10.0, 9.99], [-7.0, -7.0, -7.0]])
    log_policy = scaled_log_policy(q, 0.03)
    value = soft_value(q, q, 0.03)
    assert log_policy.isfinite().all() and value.isfinite().all()
    assert (log_policy <= 0).all()
    exact = 0.03 * (q.double() / 0.03).logsumexp(1)
    torch.testing.assert_close(value.double(), exact, rtol=1e-6, atol=1e-6)


# --- limits --------------------------------------------------------------------------------------


def test_cold_policies_take_the_maximum_and_its_distribution():
    g = torch.Generator().manual_seed(1)
    q = torch.randn(8, 4, generator=g, dtype=torch.float64)
    values = torch.randn(8, 4, 3, generator=g, dtype=torch.float64)
    best = q.argmax(1)
    found = soft_value(q, values, 1e-6)
    torch.testing.assert_close(found, values[torch.arange(8), best], rtol=0, atol=1e-5)
    torch.testing.assert_close(soft_value(q, q, 1e-6), q.amax(1), rtol=0, atol=1e-5)
    # t log pi becomes the gap to the best action (Vieillard 2020, section 4.1).
    gap = q - q.amax(1, keepdim=True)
    torch.testing.assert_close(scaled_log_policy(q, 1e-6), gap, rtol=0, atol=1e-5)


def test_equally_good_actions_are_equally_likely():
    q = doubles([[2.0, 2.0, -1e9]])
    found = scaled_log_policy(q, 0.03)[0].tolist()
    assert found[:2] == pytest.approx([-0.03 * math.log(2)] * 2, rel=1e-6)
    values = doubles([[10.0, 20.0, 1e9]])
    assert soft_value(q, values, 0.03).item() == pytest.approx(15 + 0.03 * math.log(2), rel=1e-9)


def test_one_action_has_no_bonus_and_no_entropy():
    q = doubles([[4.0], [-3.0]])
    assert munchausen_bonus(q, torch.tensor([0, 0])).tolist() == [0.0, 0.0]
    assert torch.equal(soft_value(q, q), q[:, 0])


def test_targets_have_no_gradient():
    q = torch.randn(3, 2, requires_grad=True)
    assert not munchausen_bonus(q, torch.zeros(3, dtype=torch.int64)).requires_grad
    assert not soft_value(q, q).requires_grad


def test_the_log_policy_has_the_gradient_of_finite_differences():
    q = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: scaled_log_policy(x, 0.5), (q.requires_grad_(),))


# --- what does not belong together ---------------------------------------------------------------

TABLE, ACTION = torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("function", "args", "said"),
    [
        (munchausen_bonus, (TABLE, ACTION.unsqueeze(1)), r"action .* \[4, 1\]"),
        (munchausen_bonus, (TABLE, ACTION[:2]), r"action .* \[2\]"),
        (munchausen_bonus, (TABLE, ACTION.int()), "action is torch.int32"),
        (munchausen_bonus, (TABLE[0], ACTION), r"q .* \[3\]"),
        (munchausen_bonus, (TABLE.tolist(), ACTION), "q is list"),
        (scaled_log_policy, (TABLE.long(), 0.03), "q is torch.int64"),
        (soft_value, (TABLE, TABLE[:2]), r"values .* \[2, 3\]"),
        (soft_value, (TABLE, TABLE.T), r"values .* \[3, 4\]"),
        (soft_value, (TABLE, torch.zeros(4, 2, 3)), r"values .* \[4, 2, 3\]"),
        (soft_value, (TABLE, torch.zeros(4)), r"values .* \[4\]"),
        (soft_value, (TABLE, [1.0]), "values is list"),
        (soft_value, (TABLE, TABLE, 1e-46), r"temperature = 1e-46 is out of range"),
        (munchausen_bonus, (TABLE, ACTION, 0.9, 1e39), r"temperature = 1e\+39 is out of range"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(function, args, said):
    with pytest.raises(ConfigError, match=said) as refused:
        function(*args)
    assert "\n" not in str(refused.value) and str(refused.value).endswith(".")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"alpha": 1.5}, r"munchausen_alpha = 1\.5"),
        ({"alpha": "0.9"}, "munchausen_alpha = '0.9'"),
        ({"temperature": 0.0}, r"munchausen_temperature = 0"),
        ({"temperature": -0.03}, r"munchausen_temperature = -0\.03"),
        ({"temperature": math.nan}, "munchausen_temperature = nan"),
        ({"clip": 1.0}, "munchausen_clip = 1"),
        ({"policy": "both"}, "munchausen_policy = 'both' must be one of target, online"),
    ],
)
def test_its_numbers_are_checked(options, said):
    with pytest.raises(ConfigError, match=said):
        Munchausen(**options)
    assert Munchausen() == Munchausen(alpha=0.9, temperature=0.03, clip=-1.0, policy="target")
