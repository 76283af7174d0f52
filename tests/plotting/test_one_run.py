"""plot_returns: the right numbers in the right places, and a picture in every case."""

import sys

import pytest

from fastdqn.plotting.one_run import plot_returns

HEADER = "env_steps,updates,episodes,return_mean,epsilon,loss,eval_return_mean\n"


def _texts(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()] if figure.legends else []


def _lines(axes):
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
        for line in axes.get_lines()
    }


def test_the_curves_are_those_of_the_file(tmp_path, drawn):
    (tmp_path / "metrics.csv").write_text(
        HEADER + "100,0,0,nan,1.0,nan,\n200,10,2,20.5,0.5,0.1,\n300,20,4,30.0,0.1,0.1,400\n"
    )
    path = plot_returns(tmp_path, threshold=475.0, title="CartPole-v1, seed 1")
    assert path == tmp_path / "returns.png"
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert [file.name for file in tmp_path.iterdir() if file.suffix == ".tmp"] == []

    axes, side = drawn[0].axes
    lines = _lines(axes)
    assert lines["training, mean of the last episodes (lags)"] == ([200.0, 300.0], [20.5, 30.0])
    assert lines["evaluation, last 400.0"] == ([300.0], [400.0])
    assert lines["solved at 475"][1] == [475.0, 475.0]
    assert axes.get_title(loc="left") == "CartPole-v1, seed 1"
    assert side.get_lines()[0].get_ydata().tolist() == [1.0, 0.5, 0.1]
    assert len(_texts(drawn[0])) == 4


def write_evaluations(path, rows):
    """Rows are (env_steps, mean, min, max, final)."""
    lines = ["env_steps,updates,wall_s,episodes,mean,std,median,min,max,unfinished,final"]
    lines += [f"{x},1,1.0,10,{y},1,{y},{low},{high},0,{final}" for x, y, low, high, final in rows]
    (path / "evaluations.csv").write_text("\n".join(lines) + "\n")


def whiskers(axes):
    """(env steps, low, high) of the vertical lines."""
    return [
        (a[0], a[1], b[1])
        for collection in axes.collections
        for a, b in (collection.get_segments() if hasattr(collection, "get_segments") else [])
    ]


def test_every_evaluation_is_drawn_with_its_range_and_the_final_one_marked(tmp_path, drawn):
    (tmp_path / "metrics.csv").write_text(HEADER + "100,0,0,5,1.0,0,\n320,1,2,20,0.5,0.1,7\n")
    rows = [(100, 7, 6, 9, 0), (200, 11, 8, 20, 0), (300, 30, 25, 31, 0), (300, 28, 9, 32, 1)]
    write_evaluations(tmp_path, rows)
    plot_returns(tmp_path, threshold=475.0)
    axes = drawn[0].axes[0]
    lines = _lines(axes)
    assert lines["evaluation with its range, last 30.0"] == ([100, 200, 300], [7, 11, 30])
    assert lines["final evaluation 28.0"] == ([300], [28])
    assert whiskers(axes) == [(100, 6, 9), (200, 8, 20), (300, 25, 31), (300, 9, 32)]
    (final,) = [line for line in axes.get_lines() if line.get_marker() == "D"]
    assert list(final.get_ydata()) == [28]
    assert lines["solved at 475"][1] == [475, 475]
    # Nothing of the legend is cut off.
    drawn[0].canvas.draw()
    box = drawn[0].legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= drawn[0].bbox.width


def test_many_ranges_are_a_band(tmp_path, drawn):
    rows = [(x, x, x - 1, x + 2, 0) for x in range(1, 101)] + [(100, 50, 3, 70, 1)]
    write_evaluations(tmp_path, rows)
    plot_returns(tmp_path)
    axes = drawn[0].axes[0]
    assert whiskers(axes) == [(100, 3, 70)]
    (band,) = [c for c in axes.collections if not hasattr(c, "get_segments")]
    corners = band.get_paths()[0].vertices
    assert (corners[:, 1].min(), corners[:, 1].max()) == (0, 102)
    assert not axes.texts  # evaluations without finished training episodes are something


def test_only_a_final_evaluation(tmp_path, drawn):
    write_evaluations(tmp_path, [(300, 28, 9, 32, 1)])
    plot_returns(tmp_path)
    assert _lines(drawn[0].axes[0]) == {"final evaluation 28.0": ([300], [28])}


def test_a_run_directory_may_be_a_string_and_name_the_picture(tmp_path, drawn):
    (tmp_path / "metrics.csv").write_text(HEADER + "100,1,1,5,1,0,\n")
    plot_returns(str(tmp_path))  # type: ignore[arg-type]
    assert drawn[0].axes[0].get_title(loc="left") == tmp_path.name


@pytest.mark.parametrize(
    "text",
    [None, "", HEADER, HEADER + "100,0,0,nan,1.0,nan,\n", HEADER + "100,0,0,,,,\n", "a,b\n1,2\n"],
    ids=["no file", "empty", "header", "nan", "blanks", "other columns"],
)
def test_without_finished_episodes_the_picture_says_so(tmp_path, drawn, text):
    if text is not None:
        (tmp_path / "metrics.csv").write_text(text)
    assert plot_returns(tmp_path, threshold=475.0).stat().st_size > 1_000
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["no finished episodes"]


def test_a_torn_last_line_is_no_error(tmp_path, drawn):
    (tmp_path / "metrics.csv").write_text(
        HEADER + "100,1,1,5,0.5,0,\n200,2,2,6,0.5,0,\n300,3,3,7e,0.\n400,4,\x00,8,1,1,1,1,1,1\n"
        "500,5,5,9,0.5,0,1"
    )
    plot_returns(tmp_path)
    lines = _lines(drawn[0].axes[0])
    assert lines == {"training, mean of the last episodes (lags)": ([100.0, 200.0], [5.0, 6.0])}


def test_infinities_are_left_out(tmp_path, drawn):
    (tmp_path / "metrics.csv").write_text(HEADER + "100,1,1,inf,1,0,\n200,1,1,3,1,0,-inf\n")
    plot_returns(tmp_path)
    lines = _lines(drawn[0].axes[0])
    assert lines == {"training, mean of the last episodes (lags)": ([200.0], [3.0])}


@pytest.mark.parametrize("title", ["cost $5 and $", "a_b^{", "<&>", "x" * 300])
def test_a_title_is_text_and_not_markup(tmp_path, title):
    (tmp_path / "metrics.csv").write_text(HEADER + "100,1,1,5,1,0,\n")
    assert plot_returns(tmp_path, title=title).exists()


def test_it_draws_over_the_old_picture(tmp_path):
    (tmp_path / "metrics.csv").write_text(HEADER + "100,1,1,5,1,0,\n")
    first = plot_returns(tmp_path).read_bytes()
    (tmp_path / "metrics.csv").write_text(HEADER + "100,1,1,5,1,0,\n200,1,1,9,1,0,\n")
    assert plot_returns(tmp_path).read_bytes() != first


def test_it_leaves_no_global_state(tmp_path):
    before = "matplotlib.pyplot" in sys.modules
    plot_returns(tmp_path)
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_one_row_is_a_dot_that_can_be_seen(tmp_path, drawn):
    (tmp_path / "metrics.csv").write_text(HEADER + "100,1,1,5,1,0,\n")
    plot_returns(tmp_path)
    assert drawn[0].axes[0].get_lines()[0].get_marker() == "o"
