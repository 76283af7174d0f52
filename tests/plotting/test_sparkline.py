"""Sparklines by hand."""

import io
import math
import types

import pytest

from fastdqn.plotting.sparkline import sparkline


@pytest.mark.parametrize(
    ("values", "width", "expected"),
    [
        (range(8), 8, "▁▂▃▄▅▆▇█"),
        ([7, 0, 3], 8, "█▁▄"),
        ([0, 0, 7, 7], 2, "▁█"),
        ([0, 14, 7, 7, 7, 7, 0, 0], 4, "███▁"),  # means 7, 7, 7, 0
        ([5, 5, 5], 9, "▄▄▄"),
        ([5], 9, "▄"),
        ([1, math.nan, 2, math.inf], 9, "▁█"),
        ([], 9, ""),
        ([math.nan], 9, ""),
        ([1, 2], 0, ""),
        ([1, 2], -3, ""),
        ([-21, -20.5, 21], 3, "▁▁█"),
    ],
)
def test_by_hand(values, width, expected):
    assert sparkline(list(values), width) == expected


@pytest.mark.parametrize("count", [1, 7, 20, 21, 399, 1_000])
def test_it_is_as_wide_as_it_may_be(count):
    assert len(sparkline([float(k) for k in range(count)], 20)) == min(count, 20)


def test_a_stream_without_blocks_gets_ascii():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    marks = sparkline(list(range(8)), 8, stream=stream)
    assert marks == "_.-~=+*#"
    for encoding in ("utf-8", None):
        stream = types.SimpleNamespace(encoding=encoding)
        assert sparkline([0, 1], 8, stream=stream) == "▁█"
    assert sparkline([0, 1], 8, stream=types.SimpleNamespace(encoding="no-such")).isascii()
