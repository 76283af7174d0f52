"""The curves of a page: ticks by hand, places of points, what is a band and what a dot."""

import re

import pytest
from helpers.written_runs import write_run
from hypothesis import given
from hypothesis import strategies as st

from fastdqn.reporting.chart import BOTTOM, LEFT, RIGHT, TOP, chart_of, ticks
from fastdqn.runs.groups import group_runs
from fastdqn.runs.reader import read_run


def drawn(*paths, threshold=None):
    groups = group_runs([read_run(path) for path in paths])
    return chart_of(groups[0].env_name, groups, threshold)


def points(path):
    return [tuple(map(float, pair.split())) for pair in path.d.strip("MZ").split("L")]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 20, [0, 5, 10, 15, 20]),
        (-21, 21, [-20, -10, 0, 10, 20]),
        (0, 0.03, [0, 0.01, 0.02, 0.03]),
        (0, 1_000_000, [0, 200_000, 400_000, 600_000, 800_000, 1_000_000]),
        (470, 505, [470, 480, 490, 500]),
    ],
)
def test_ticks_by_hand(low, high, expected):
    assert ticks(low, high, 5) == pytest.approx(expected)


@given(low=st.floats(-1e9, 1e9), span=st.floats(1e-3, 1e9), most=st.integers(2, 9))
def test_ticks_are_few_round_and_inside(low, span, most):
    found = ticks(low, low + span, most)
    assert len(found) <= most + 1
    slack = 1e-6 * max(span, abs(low))
    assert all(low - slack <= tick <= low + span + slack for tick in found)


def test_of_one_run_the_line_goes_from_corner_to_corner(tmp_path):
    chart = drawn(write_run(tmp_path / "a", [10, 20, 30, 40]))
    kinds = [path.kind for path in chart.paths]
    assert kinds == ["training", "main"]
    # 50, 100, 150 and 200 env steps; the axis begins at 0. 4 % of the returns' range are room.
    at = points(chart.paths[1])
    quarter = (RIGHT - LEFT) / 4
    assert [x for x, _ in at] == pytest.approx([LEFT + quarter * k for k in (1, 2, 3, 4)], abs=0.1)
    low, high = 1 - 0.04 * 39, 40 + 0.04 * 39
    expected = [BOTTOM - (v - low) / (high - low) * (BOTTOM - TOP) for v in (10, 20, 30, 40)]
    assert [y for _, y in at] == pytest.approx(expected, abs=0.1)
    assert [tick.label for tick in chart.x_ticks] == ["0", "50", "100", "150", "200"]
    assert chart.dots == ()


def test_of_three_runs_there_is_a_band_the_mean_and_each_run(tmp_path):
    paths = [write_run(tmp_path / str(k), [k, 10 * k], seed=k) for k in (1, 2, 6)]
    chart = drawn(*paths, threshold=100.0)
    assert [path.kind for path in chart.paths] == [
        "threshold", "band", "run", "run", "run", "training", "main"
    ]  # fmt: skip
    band, main = chart.paths[1], chart.paths[-1]
    assert band.d.endswith("Z") and len(points(band)) == 4
    runs = [points(path) for path in chart.paths if path.kind == "run"]
    (_, start), (_, end) = points(main)
    assert start == pytest.approx(sum(run[0][1] for run in runs) / 3, abs=0.1)
    assert end == pytest.approx(sum(run[1][1] for run in runs) / 3, abs=0.1)
    # Of three the interval reaches from run to run: first its low ends, y downwards.
    lowest = [max(run[k][1] for run in runs) for k in (0, 1)]
    assert [y for _, y in points(band)[:2]] == lowest


def test_of_two_runs_each_is_a_line(tmp_path):
    chart = drawn(*(write_run(tmp_path / str(k), [k, k], seed=k) for k in (1, 2)))
    assert [path.kind for path in chart.paths] == ["training"] * 2 + ["main"] * 2


def test_evaluations_beside_training_are_dots(tmp_path):
    chart = drawn(write_run(tmp_path / "a", [7]))
    assert [path.kind for path in chart.paths] == ["main"]
    (dot,) = chart.dots
    assert dot.evaluation and dot.x == RIGHT and TOP < dot.y < BOTTOM


def test_one_row_is_a_dot_and_no_row_is_no_chart(tmp_path):
    chart = drawn(write_run(tmp_path / "a", returns=(3.0,)))
    assert [dot.evaluation for dot in chart.dots] == [False] and chart.paths == ()
    assert drawn(write_run(tmp_path / "b", returns=())) is None


def test_long_runs_are_thinned(tmp_path):
    chart = drawn(write_run(tmp_path / "a", returns=range(1, 201)))
    assert len(points(chart.paths[0])) == 200
    many = write_run(tmp_path / "b", returns=range(1, 201))
    rows = (many / "metrics.csv").read_text().splitlines()
    more = [re.sub(r"^\d+", str(1000 + k), rows[-1]) for k in range(2_000)]
    (many / "metrics.csv").write_text("\r\n".join([*rows, *more]) + "\r\n")
    at = points(drawn(many).paths[0])
    assert len(at) == 250 and at[-1][0] == RIGHT
