"""Leaves, sums and weights are normal numbers for any finite priority, in every way to compute."""

import math

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastdqn.config.config import Config
from fastdqn.config.fields import fields_of
from fastdqn.errors import ConfigError
from fastdqn.replay import priorities
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.system.loops import find_njit
from fastdqn.types import TimeStep

LARGEST = float(np.finfo(np.float32).max)
DENORMAL = float(np.finfo(np.float32).smallest_subnormal)
ROWS = 12
WAYS = {"loops": {"compiled": True}, "torch": {"compiled": False}}
both_ways = pytest.mark.parametrize("way", list(WAYS))


def filled(way, **kwargs):
    """Twelve drawable rows of one episode, of which the update is tested on all."""
    if way == "loops" and find_njit() is None:
        pytest.skip("needs Numba")
    arguments = {**WAYS.get(way, {}), **kwargs}
    space = Box(-np.inf, np.inf, (1,), np.float32)
    replay = ReplayBuffer(80, 1, space, prioritized=True, **arguments)
    for i in range(ROWS + 1):
        add(replay, first=i == 0)
    return replay


def add(replay, *, first=False):
    zeros, no = np.zeros(1, np.float32), np.zeros(1, bool)
    step = TimeStep(np.zeros((1, 1), np.float32), zeros, no, no, np.full(1, first))
    replay.add(step, None if first else np.zeros(1, np.int64))


def leaf_of(priority, alpha, epsilon):
    """In float64, of what float32 makes of the arguments."""
    priority, alpha, epsilon = (float(np.float32(x)) for x in (priority, alpha, epsilon))
    return (min(max(priority, 0.0), 2.0**86) + epsilon) ** alpha


def check_draws(replay, beta):
    replay.tree.check_valid()  # every sum is finite, too
    batch = replay.sample(64, beta=beta)
    leaf = replay.tree.get(batch.index)
    weight = batch.weight.double()
    assert (leaf > 0).all()
    assert (weight >= torch.finfo(torch.float32).tiny).all() and (weight <= 1).all()
    expected = (leaf.double().min() / leaf.double()) ** float(np.float32(beta))
    torch.testing.assert_close(weight, expected, rtol=2e-5, atol=0)


finite = st.floats(0, LARGEST, width=32) | st.sampled_from(
    [-LARGEST, 0.0, DENORMAL, 2.0**86, LARGEST]
)
unit = st.floats(0, 1, width=32) | st.sampled_from([0.0, 0.6, 1.0])
epsilons = st.floats(1e-12, 1) | st.sampled_from([1e-12, 1e-6, 1.0])


@both_ways
@given(st.lists(finite, min_size=ROWS, max_size=ROWS), unit, epsilons, unit)
@example([LARGEST] + [0.0] * (ROWS - 1), 1.0, 1e-12, 1.0)
@example([LARGEST] * ROWS, 1.0, 1.0, 1.0)
@example([0.0, DENORMAL] * (ROWS // 2), 1.0, 1e-12, 1.0)
@settings(max_examples=60, deadline=None)
def test_any_finite_priority_gives_a_leaf_that_can_be_drawn(way, values, alpha, epsilon, beta):
    replay = filled(way, alpha=alpha, priority_epsilon=epsilon)
    index = torch.arange(ROWS)
    replay.update_priorities(index, torch.tensor(values))
    assert not replay.nonfinite_priority
    assert replay.max_priority.item() == min(max(1.0, *values), 2.0**86)
    expected = [leaf_of(value, alpha, epsilon) for value in values]
    assert replay.tree.get(index).tolist() == pytest.approx(expected, rel=1e-5, abs=0)
    check_draws(replay, beta)
    add(replay)  # enters with the largest
    top = leaf_of(max(1.0, *values), alpha, epsilon)
    assert replay.tree.get(index[-1:] + 1).item() == pytest.approx(top, rel=1e-5)
    check_draws(replay, beta)


@both_ways
def test_compiled_or_not_the_extremes_are_the_same_and_what_is_not_finite_is_told(way):
    plain = filled(way, alpha=1.0, priority_epsilon=1e-12)
    other = filled("compiled", alpha=1.0, priority_epsilon=1e-12, **COMPILED)
    values = torch.tensor([0.0, DENORMAL, 1.0, LARGEST, 3.0])
    for replay in (plain, other):
        replay.update_priorities(torch.arange(5), values)
        assert replay.max_priority.item() == 2.0**86
        check_draws(replay, 1.0)
        assert not replay.nonfinite_priority
    torch.testing.assert_close(plain.tree.leaves, other.tree.leaves, rtol=1e-5, atol=0)
    for replay in (plain, other):
        replay.update_priorities(torch.tensor([0, 1]), torch.tensor([math.nan, math.inf]))
        assert replay.nonfinite_priority
        assert replay.tree.get(torch.tensor([0, 1])).tolist() == [2.0**86] * 2
        check_draws(replay, 1.0)


COMPILED = {"compiled": False, "mode": "compile", "compile_backend": "aot_eager"}


def test_the_bounds_hold_for_the_largest_replay():
    high, low = np.float32(priorities.LARGEST_PRIORITY + 1.0), np.float32(1e-12)
    assert np.isfinite(high * np.float32(fields_of(Config)["replay_capacity"].range.high))
    assert low / high >= np.finfo(np.float32).tiny
    assert low**1.0 <= low**0.5 and high**0.5 <= high**1.0  # alpha 1 is the widest


@pytest.mark.parametrize("way", ["loops", "torch"])
def test_a_saved_priority_beyond_the_bound_counts_as_the_bound(way):
    replay = filled(way, alpha=1.0)
    state = replay.state_dict()
    other = filled(way, alpha=1.0)
    other.load_state_dict({**state, "max_priority": torch.tensor(LARGEST)})
    for _ in range(3):
        add(other)
    check_draws(other, 1.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alpha", 10.0), ("alpha", 1.0001), ("alpha", -0.1), ("alpha", math.nan),
        ("priority_epsilon", 0.0), ("priority_epsilon", 1e-300), ("priority_epsilon", 1.1),
        ("priority_epsilon", math.nan),
    ],
)  # fmt: skip
def test_the_replay_refuses_what_the_configuration_refuses(name, value):
    for arguments in ({}, {"compiled": False}, COMPILED):
        with pytest.raises(ConfigError, match=rf"^{name} = .* use a number from .* to 1\.$"):
            filled("", **{name: value}, **arguments)
    field = name if name.startswith("priority") else f"priority_{name}"
    allowed = fields_of(Config)[field].range
    assert value not in allowed
    for end in (allowed.low, allowed.high):
        filled("", **{name: end})
