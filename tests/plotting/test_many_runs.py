"""plot_curves: the right numbers in the right panels, and pictures that are not blank."""

import json

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from fastdqn.config.config import Config
from fastdqn.plotting import style
from fastdqn.plotting.many_runs import plot_curves
from fastdqn.runs.reader import read_run
from fastdqn.training.report import COLUMNS

PANELS = ("epsilon", "|TD error|", "Q estimate", "env steps/s")
MAIN, SMALLER, EACH, TRAINING = 2.0, 1.3, 0.8, 1.4  # widths of lines


def write_run(path, rows, threshold=None, tail="", **changes):
    """A run directory as the trainer leaves it; rows are (env_steps, return, eval or None)."""
    path.mkdir()
    (path / "config.json").write_text(Config(**changes).to_json())
    lines = [",".join(COLUMNS)]
    for env_steps, value, evaluation in rows:
        cells = {
            "env_steps": env_steps,
            "return_mean": value,
            "epsilon": 1 - env_steps / 1_000,
            "td_error_abs": value / 10,
            "q_mean": -value,
            "env_steps_per_s": 1_000 + value,
            "eval_return_mean": "" if evaluation is None else evaluation,
        }
        lines.append(",".join(str(cells.get(name, "")) for name in COLUMNS))
    (path / "metrics.csv").write_text("\r\n".join(lines) + "\r\n" + tail)
    if threshold is not None:
        (path / "summary.json").write_text(json.dumps({"reward_threshold": threshold}))
    return read_run(path)


def straight(slope, steps=(100, 200, 300), last_eval=None):
    rows = [(step, slope * step / 100, None) for step in steps]
    return [*rows[:-1], (*rows[-1][:2], last_eval)]


@pytest.fixture
def runs(tmp_path):
    return [
        write_run(tmp_path / "a1", straight(10, last_eval=77), threshold=475.0, seed=1),
        write_run(tmp_path / "a2", straight(20), seed=2),
        write_run(tmp_path / "a3", straight(30), seed=3),
        write_run(tmp_path / "b", straight(5), seed=1, double=False),
    ]


def evaluated(path, means, **changes):
    """A run with evaluations at 100, 200, ... env steps, the last one final."""
    write_run(path, straight(1), **changes)
    rows = [f"{100 * (k + 1)},{mean},{int(k + 1 == len(means))}" for k, mean in enumerate(means)]
    (path / "evaluations.csv").write_text("env_steps,mean,final\n" + "\n".join(rows) + "\n")
    return read_run(path)


def lines_of(axes, color, width):
    return [
        line for line in axes.get_lines()
        if line.get_color() == color and line.get_linewidth() == width
    ]  # fmt: skip


def ends_of(band):
    """The lowest and the highest place of a band."""
    corners = band.get_paths()[0].vertices[:, 1]
    return corners.min(), corners.max()


def texts_of(figure):
    """Of the legends: the configurations, and what the marks mean."""
    return [[text.get_text() for text in legend.get_texts()] for legend in figure.legends]


def test_every_panel_has_the_mean_of_each_configuration(tmp_path, drawn, runs):
    groups = plot_curves(runs, tmp_path / "c.png")
    assert [len(group.runs) for group in groups] == [3, 1]
    (figure,) = drawn
    large, *small = figure.axes
    assert [axes.get_title(loc="left").split(",")[0] for axes in small] == list(PANELS)
    assert large.get_title(loc="left") == "CartPole-v1: return per episode"
    several, one = np.array([20.0, 40, 60]), np.array([5.0, 10, 15])
    epsilon = np.array([0.9, 0.8, 0.7])
    expected = [(several, one), (epsilon, epsilon), (several / 10, one / 10), (-several, -one),
                (1_000 + several, 1_000 + one)]  # fmt: skip
    for axes, curves in zip(figure.axes, expected, strict=True):
        for color, values in zip(style.PALETTE, curves, strict=False):
            (thick,) = lines_of(axes, color, MAIN if axes is large else SMALLER)
            assert list(thick.get_xdata()) == [100, 200, 300]
            assert np.allclose(thick.get_ydata(), values)
    # Each seed as a thin line, and the interval as a band: of three runs it reaches from the lowest
    # to the highest.
    thin = sorted(list(line.get_ydata()) for line in lines_of(large, style.PALETTE[0], EACH))
    assert thin == [[10, 20, 30], [20, 40, 60], [30, 60, 90]]
    (band,) = large.collections
    assert ends_of(band) == (10, 90)


def test_two_runs_are_two_lines_without_mean_and_interval(tmp_path, drawn, runs):
    plot_curves(runs[:2], tmp_path / "c.png")
    large = drawn[0].axes[0]
    lines = [list(line.get_ydata()) for line in lines_of(large, style.PALETTE[0], MAIN)]
    assert lines == [[10, 20, 30], [20, 40, 60]]
    assert not large.collections
    assert texts_of(drawn[0])[1] == [
        "training (mean of all episodes so far)", "evaluation", "solved at 475"
    ]  # fmt: skip


def test_one_evaluation_is_a_diamond_beside_training(tmp_path, drawn, runs):
    plot_curves(runs, tmp_path / "c.png")
    large = drawn[0].axes[0]
    dots = [line for line in large.get_lines() if line.get_marker() == "D"]
    assert [(list(dot.get_xdata()), list(dot.get_ydata())) for dot in dots] == [([300], [77])]
    assert dots[0].get_markerfacecolor() == style.PALETTE[0]
    assert [list(line.get_ydata()) for line in large.get_lines() if line.get_linestyle() == "--"] \
        == [[475, 475]]  # fmt: skip
    names, key = texts_of(drawn[0])
    assert names == ["double True (3 seeds)", "double False (seed 1)"]
    assert key == [
        "training (mean of all episodes so far): mean of the runs, each run if fewer than 3",
        "95 % bootstrap interval of the mean",
        "each run",
        "evaluation",
        "solved at 475",
    ]


def test_evaluations_are_the_main_line_and_training_a_thin_one(tmp_path, drawn):
    means = ((0, 10, 50), (10, 20, 60), (20, 30, 70), (30, 40, 80), (40, 50, 500))
    runs = [evaluated(tmp_path / f"r{k}", row, seed=k) for k, row in enumerate(means)]
    plot_curves(runs, tmp_path / "c.png")
    large = drawn[0].axes[0]
    (main,) = lines_of(large, style.PALETTE[0], MAIN)
    assert (list(main.get_xdata()), list(main.get_ydata())) == ([100, 200, 300], [20, 30, 152])
    (training,) = lines_of(large, style.PALETTE[0], TRAINING)
    assert training.get_linestyle() == ":" and list(training.get_ydata()) == [1, 2, 3]
    assert not [line for line in large.get_lines() if line.get_marker() == "D"]
    (band,) = large.collections
    low, high = ends_of(band)
    assert low > 0 and high < 500, "an interval of the mean, and not the range of the runs"
    assert texts_of(drawn[0]) == [
        ["CartPole-v1 (5 seeds)"],
        [
            "evaluation: mean of the runs",
            "95 % bootstrap interval of the mean",
            "each run",
            "training (mean of all episodes so far)",
        ],
    ]


def test_every_env_has_a_panel_and_a_configuration_one_colour_in_all(tmp_path, drawn):
    runs = [
        evaluated(tmp_path / f"{env}{double}", (k, k), env_id=env, double=double)
        for k, (env, double) in enumerate(
            (env, double) for env in ("A-v1", "B-v1", "C-v1") for double in (True, False)
        )
    ]
    plot_curves(runs, tmp_path / "c.png")
    assert [axes.get_title(loc="left") for axes in drawn[0].axes] == ["A-v1", "B-v1", "C-v1"]
    for number, axes in enumerate(drawn[0].axes):
        mains = [lines_of(axes, color, MAIN) for color in style.PALETTE[:2]]
        assert [[list(line.get_ydata()) for line in lines] for lines in mains] == [
            [[2 * number] * 2],
            [[2 * number + 1] * 2],
        ]
    assert texts_of(drawn[0])[0] == ["double True (seed 1)", "double False (seed 1)"]
    # Where no env has two configurations, the panels name them.
    plot_curves([runs[0], runs[3]], tmp_path / "c.png")
    assert [axes.get_title(loc="left") for axes in drawn[1].axes] == [
        "A-v1 (seed 1)", "B-v1 (seed 1)"
    ]  # fmt: skip
    assert len(drawn[1].legends) == 1


@pytest.mark.parametrize("speed", ["", "0"])
def test_without_any_speed_there_is_no_logarithmic_axis(tmp_path, drawn, speed):
    path = tmp_path / "r"
    path.mkdir()
    (path / "config.json").write_text(Config().to_json())
    (path / "metrics.csv").write_text(f"env_steps,return_mean,env_steps_per_s\n8,1,{speed}\n")
    plot_curves([read_run(path)], tmp_path / "c.png")
    assert drawn[0].axes[4].get_yscale() == "linear"


def test_a_single_row_is_a_mark_and_what_is_missing_says_so(tmp_path, drawn):
    run = write_run(tmp_path / "r", [(8, 1.0, None)], tail="16,2,3")
    run = type(run)(run.path, run.config, {**run.columns, "q_mean": []}, None)
    plot_curves([run], tmp_path / "c.png")
    large, _, _, q, _ = drawn[0].axes
    assert large.get_lines()[0].get_marker() == "s"
    assert [text.get_text() for text in q.texts] == ["nothing yet"]
    assert large.texts == [] or not large.texts
    # Nothing pushes the panels away from the left edge.
    assert large.get_position().x0 < 0.08


def test_runs_that_do_not_overlap_are_still_drawn(tmp_path, drawn):
    runs = [
        write_run(tmp_path / "a", straight(1, (100, 200)), seed=1),
        write_run(tmp_path / "b", straight(1, (300, 400)), seed=2),
        write_run(tmp_path / "c", straight(1, (300, 400)), seed=3),
    ]
    plot_curves(runs, tmp_path / "c.png")
    assert len(lines_of(drawn[0].axes[0], style.PALETTE[0], EACH)) == 3
    assert not drawn[0].axes[0].texts


def test_the_picture_shows_the_colours_in_every_panel(tmp_path, drawn, runs):
    path = tmp_path / "c.png"
    plot_curves(runs, path)
    pixels = matplotlib.image.imread(path)[..., :3]
    assert pixels.std() > 0.02
    height, width = pixels.shape[:2]
    for axes in drawn[0].axes:
        box = axes.get_position()
        rows = slice(int((1 - box.y1) * height), int((1 - box.y0) * height))
        panel = pixels[rows, int(box.x0 * width) : int(box.x1 * width)]
        for color in style.PALETTE[1:2] if axes is drawn[0].axes[1] else style.PALETTE[:2]:
            close = np.abs(panel - to_rgb(color)).max(axis=-1) < 0.02
            assert close.sum() > 50, axes.get_title(loc="left")
