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

PANELS = ("return", "epsilon", "|TD error|", "Q estimate", "env steps/s")


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
        write_run(tmp_path / "b", straight(5), seed=1, double=False),
    ]


def lines_of(axes, color, width):
    return [
        line for line in axes.get_lines()
        if line.get_color() == color and line.get_linewidth() == width
    ]  # fmt: skip


def test_every_panel_has_the_mean_of_each_configuration(tmp_path, drawn, runs):
    groups = plot_curves(runs, tmp_path / "c.png")
    assert [len(group.runs) for group in groups] == [2, 1]
    (figure,) = drawn
    large, *small = figure.axes
    assert [axes.get_title(loc="left").split(",")[0] for axes in small] == list(PANELS[1:])
    assert large.get_title(loc="left").startswith("CartPole-v1: return, mean of the last 100 ")
    both, one = np.array([15.0, 30, 45]), np.array([5.0, 10, 15])
    epsilon = np.array([0.9, 0.8, 0.7])
    expected = [(both, one), (epsilon, epsilon), (both / 10, one / 10), (-both, -one),
                (1_000 + both, 1_000 + one)]  # fmt: skip
    for axes, curves in zip(figure.axes, expected, strict=True):
        for color, values in zip(style.PALETTE, curves, strict=False):
            (thick,) = lines_of(axes, color, 1.8)
            assert list(thick.get_xdata()) == [100, 200, 300]
            assert np.allclose(thick.get_ydata(), values)
    # Each seed as a thin line, and the range as a band.
    thin = sorted(list(line.get_ydata()) for line in lines_of(large, style.PALETTE[0], 0.7))
    assert thin == [[10, 20, 30], [20, 40, 60]]
    (band,) = large.collections
    corners = band.get_paths()[0].vertices
    assert (corners[:, 1].min(), corners[:, 1].max()) == (10, 60)


def test_evaluations_threshold_and_legend(tmp_path, drawn, runs):
    plot_curves(runs, tmp_path / "c.png")
    large = drawn[0].axes[0]
    dots = [line for line in large.get_lines() if line.get_linestyle() == "None"]
    assert [(list(dot.get_xdata()), list(dot.get_ydata())) for dot in dots] == [([300], [77])]
    assert dots[0].get_markerfacecolor() == style.PALETTE[0]
    assert [list(line.get_ydata()) for line in large.get_lines() if line.get_linestyle() == "--"] \
        == [[475, 475]]  # fmt: skip
    texts = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert texts == ["double True (2 seeds)", "double False (seed 1)"]
    key = drawn[0]._supxlabel.get_text()
    assert "band: min to max" in key and "evaluation" in key and "solved at 475" in key


def test_every_evaluation_is_drawn_and_the_final_one_is_a_diamond(tmp_path, drawn, runs):
    (tmp_path / "b" / "evaluations.csv").write_text(
        "env_steps,mean,final\n100,3,0\n200,4,0\n300,5,0\n300,6,1\n"
    )
    plot_curves([runs[0], read_run(tmp_path / "b")], tmp_path / "c.png")
    marks = {
        (line.get_markerfacecolor(), line.get_marker()): list(line.get_ydata())
        for line in drawn[0].axes[0].get_lines()
        if line.get_linestyle() == "None"
    }
    own, other = style.PALETTE[:2]
    assert marks == {(own, "o"): [77], (other, "o"): [3, 4, 5], (other, "D"): [6]}
    assert "dots: evaluation; diamonds: final evaluation" in drawn[0]._supxlabel.get_text()


@pytest.mark.parametrize("speed", ["", "0"])
def test_without_any_speed_there_is_no_logarithmic_axis(tmp_path, drawn, speed):
    path = tmp_path / "r"
    path.mkdir()
    (path / "config.json").write_text(Config().to_json())
    (path / "metrics.csv").write_text(f"env_steps,return_mean,env_steps_per_s\n8,1,{speed}\n")
    plot_curves([read_run(path)], tmp_path / "c.png")
    assert drawn[0].axes[4].get_yscale() == "linear"


def test_five_seeds_say_bootstrap(tmp_path, drawn):
    runs = [write_run(tmp_path / f"r{k}", straight(k), seed=k) for k in range(1, 6)]
    plot_curves(runs, tmp_path / "c.png")
    assert "95 % bootstrap" in drawn[0]._supxlabel.get_text()


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
    ]
    plot_curves(runs, tmp_path / "c.png")
    assert len(lines_of(drawn[0].axes[0], style.PALETTE[0], 0.7)) == 2
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
