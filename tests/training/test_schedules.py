"""Schedules by hand, and their properties."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdqn.training.schedules import SCHEDULES, exponential_schedule, linear_schedule


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 1.0), (100, 1.0), (101, 0.991), (150, 0.55), (200, 0.1), (201, 0.1), (10**9, 0.1)],
)
def test_linear_by_hand(step, expected):
    assert linear_schedule(step, 1.0, 0.1, 100, 100) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("start", "end"), [(1.0, 0.05), (1.0, 0.01), (0.4, 1.0), (2.5e-4, 1e-5)])
def test_linear_meets_both_ends_exactly(start, end):
    assert linear_schedule(0, start, end, 0, 7) == start
    assert linear_schedule(7, start, end, 0, 7) == end
    assert linear_schedule(8, start, end, 0, 7) == end


@pytest.mark.parametrize(("step", "expected"), [(9, 1.0), (10, 0.1), (11, 0.1)])
def test_linear_of_no_duration_is_a_step(step, expected):
    assert linear_schedule(step, 1.0, 0.1, 10, 0) == expected


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 1.0),
        (50, 1.0),
        (50 + 100, 0.1 + 0.9 / math.e),
        (50 + 200, 0.1 + 0.9 / math.e**2),
        (10**9, 0.1),
    ],
)
def test_exponential_by_hand(step, expected):
    assert exponential_schedule(step, 1.0, 0.1, 50, 100) == pytest.approx(expected, rel=1e-12)


@given(
    kind=st.sampled_from(sorted(SCHEDULES)),
    start=st.floats(0, 1),
    end=st.floats(0, 1),
    begin=st.integers(0, 10**6),
    duration=st.integers(1, 10**7),
    steps=st.lists(st.integers(0, 10**8), min_size=2, max_size=5),
)
def test_schedules_stay_between_their_ends_and_never_turn(kind, start, end, begin, duration, steps):
    schedule = SCHEDULES[kind]
    values = [schedule(step, start, end, begin, duration) for step in sorted(steps)]
    low, high, slack = min(start, end), max(start, end), 1e-12
    assert all(low - slack <= value <= high + slack for value in values)
    ordered = sorted(values, reverse=start > end)
    assert values == pytest.approx(ordered, abs=slack)
    assert schedule(begin, start, end, begin, duration) == pytest.approx(start, abs=slack)
