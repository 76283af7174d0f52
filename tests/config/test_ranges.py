"""A range: what it holds, and how it is said."""

import math

import pytest

from fastdqn.config.ranges import ABOVE_ZERO, Range

TINY = math.nextafter(0.0, 1.0)


@pytest.mark.parametrize(
    ("allowed", "inside", "outside", "said"),
    [
        (Range(1, 65_536), [1, 2, 65_536], [0, 65_537, math.nan], "a number from 1 to 65,536"),
        (Range(0.01, 1e6), [0.01, 1e6], [0.0099, math.inf], "a number from 0.01 to 1,000,000"),
        (Range(0.0), [0, 1e300], [-TINY], "a number from 0"),
        (ABOVE_ZERO, [TINY, 1e300], [0, 0.0, -0.0, -1, math.nan], "a number above 0"),
        (
            Range(0.0, 10.0, open_low=True),
            [TINY, 10],
            [0.0, math.nextafter(10.0, 11.0)],
            "a number above 0 and at most 10",
        ),
    ],
)
def test_a_range(allowed, inside, outside, said):
    assert all(value in allowed for value in inside)
    assert not any(value in allowed for value in outside)
    assert str(allowed) == said
