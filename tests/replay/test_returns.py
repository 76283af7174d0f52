"""n-step returns against a loop written from the definition."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastdqn.replay.returns import n_step_return


def plain_n_step(reward, terminated, end, gamma):
    """One sample: steps 1..n in lists; ``end[k]``: nothing after step k belongs to the episode."""
    n, total = len(reward), 0.0
    for k in range(1, n + 1):
        total += gamma ** (k - 1) * reward[k - 1]
        if k == n or end[k - 1]:
            return total, (0.0 if terminated[k - 1] else gamma**k), k
    raise AssertionError


def returns_of(reward, terminated, end, gamma, dtype=torch.float64):
    n = len(reward[0])
    powers = torch.tensor([gamma**k for k in range(n + 1)], dtype=dtype)
    total, discount, steps = n_step_return(
        torch.tensor(reward, dtype=dtype),
        torch.tensor(terminated),
        torch.tensor(end).reshape(len(reward), -1)[:, : n - 1],
        powers,
    )
    assert total.dtype == discount.dtype == dtype and steps.dtype == torch.int64
    assert total.shape == discount.shape == steps.shape == (len(reward),)
    return total.tolist(), discount.tolist(), steps.tolist()


HALF = 0.5  # gamma: all powers are exact
NO = [False] * 5


def flags(n, *at):
    return [k in at for k in range(1, n + 1)]


@pytest.mark.parametrize(
    ("reward", "terminated", "end", "expected"),
    [
        # n = 1: the discount alone tells the end
        ([4.0], flags(1), flags(1), (4.0, 0.5, 1)),
        ([4.0], flags(1, 1), flags(1, 1), (4.0, 0.0, 1)),
        # truncated at the only step: bootstraps
        ([4.0], flags(1), flags(1, 1), (4.0, 0.5, 1)),
        # n = 3, nothing ends: 1 + 2/2 + 4/4
        ([1.0, 2.0, 4.0], flags(3), flags(3), (3.0, 0.125, 3)),
        # terminated at step 2: 1 + 2/2, no bootstrap
        ([1.0, 2.0, 4.0], flags(3, 2), flags(3, 2), (2.0, 0.0, 2)),
        # truncated at step 2, or an unflagged reset after it: gamma^2, not gamma^3
        ([1.0, 2.0, 4.0], flags(3), flags(3, 2), (2.0, 0.25, 2)),
        # truncated at step 1
        ([1.0, 2.0, 4.0], flags(3), flags(3, 1), (1.0, 0.5, 1)),
        # terminated at the last step
        ([1.0, 2.0, 4.0], flags(3, 3), flags(3, 3), (3.0, 0.0, 3)),
        # terminated in the next episode: not this one's business
        ([1.0, 2.0, 4.0], flags(3, 3), flags(3, 2), (2.0, 0.25, 2)),
        # both ends within the window: the first counts
        ([1.0, 2.0, 4.0], flags(3, 1, 3), flags(3, 1, 3), (1.0, 0.0, 1)),
        # n = 5
        ([1.0, 2.0, 4.0, 8.0, 16.0], flags(5), flags(5), (5.0, 0.03125, 5)),
        ([1.0, 2.0, 4.0, 8.0, 16.0], flags(5, 4), flags(5, 4), (4.0, 0.0, 4)),
        ([1.0, 2.0, 4.0, 8.0, 16.0], flags(5), flags(5, 4), (4.0, 0.0625, 4)),
    ],
)
def test_by_hand(reward, terminated, end, expected):
    total, discount, steps = returns_of([reward], [terminated], [end], HALF)
    assert (total[0], discount[0], steps[0]) == expected
    assert plain_n_step(reward, terminated, end, HALF) == expected  # the oracle agrees


@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("terminal", [True, False])
def test_what_lies_after_the_end_does_not_leak(n, poison, terminal):
    reward = [1.0, 2.0] + [poison] * (n - 2)
    last = flags(n, 2)
    total, discount, steps = returns_of([reward], [last if terminal else NO[:n]], [last], HALF)
    assert (total, discount, steps) == ([2.0], [0.0 if terminal else 0.25], [2])


def test_a_nan_within_the_episode_shows():
    total, _, _ = returns_of([[1.0, math.nan, 1.0]], [flags(3)], [flags(3)], HALF)
    assert math.isnan(total[0])


@pytest.mark.parametrize("n", [1, 3, 5])
def test_samples_do_not_mix(n):
    rng = np.random.default_rng(n)
    reward = rng.normal(size=(500, n))
    terminated = rng.random((500, n)) < 0.2
    end = terminated | (rng.random((500, n)) < 0.2)
    got = returns_of(reward.tolist(), terminated.tolist(), end.tolist(), 0.97)
    rows = zip(reward.tolist(), terminated.tolist(), end.tolist(), strict=True)
    expected = [plain_n_step(*row, 0.97) for row in rows]
    for values, wanted in zip(got, zip(*expected, strict=True), strict=True):
        assert values == pytest.approx(list(wanted), rel=1e-12, abs=1e-12)


@given(data=st.data(), n=st.integers(1, 8), gamma=st.floats(0.01, 1.0))
def test_property(data, n, gamma):
    batch = data.draw(st.integers(1, 4))
    bools = st.lists(st.booleans(), min_size=n, max_size=n)
    floats = st.lists(st.floats(-100, 100), min_size=n, max_size=n)
    reward = [data.draw(floats) for _ in range(batch)]
    terminated = [data.draw(bools) for _ in range(batch)]
    end = [data.draw(bools) for _ in range(batch)]
    total, discount, steps = returns_of(reward, terminated, end, gamma)
    for b in range(batch):
        wanted = plain_n_step(reward[b], terminated[b], end[b], gamma)
        assert (total[b], discount[b], steps[b]) == pytest.approx(wanted, rel=1e-9, abs=1e-9)
