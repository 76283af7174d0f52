"""Runs read from the disk, and put together: rows, groups, means and intervals by hand."""

import itertools
import json
import math
import os

import numpy as np
import pytest

from fastdqn.config.config import Config
from fastdqn.errors import CheckpointError, ConfigError
from fastdqn.runs.groups import aggregate, group_runs, interval_name
from fastdqn.runs.reader import Run, curve, read_columns, read_evaluations, read_run, run_config

# --- reading --------------------------------------------------------------------------------------


def test_rows_become_columns(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("env_steps,return_mean,loss\r\n8,,\r\n16,1.5,nan\r\n24,inf,0.25\r\n")
    columns = read_columns(path)
    assert columns["env_steps"] == [8, 16, 24]
    assert math.isnan(columns["return_mean"][0]) and columns["return_mean"][1] == 1.5
    assert curve(columns, "return_mean") == ([16], [1.5])
    assert curve(columns, "loss") == ([24], [0.25])
    assert curve(columns, "no such column") == ([], [])


@pytest.mark.parametrize(
    "tail", ["2", "24,1", "24,12.", "24,12.5,0", "24,1,2,3,4\n", "24,1\n", "\n"]
)
def test_a_line_that_is_not_whole_does_not_count(tmp_path, tail):
    path = tmp_path / "metrics.csv"
    path.write_text("env_steps,return_mean,loss\n8,1,2\n16,2,3\n" + tail)
    assert read_columns(path) == {"env_steps": [8, 16], "return_mean": [1, 2], "loss": [2, 3]}


def test_rows_out_of_order_are_sorted_and_the_last_of_equals_counts():
    columns = {"env_steps": [8.0, 24.0, 16.0, 8.0, 24.0], "a": [1.0, 2.0, 3.0, 4.0, math.nan]}
    assert curve(columns, "a") == ([8, 16, 24], [4, 3, 2])


def test_no_file_is_no_rows(tmp_path):
    assert read_columns(tmp_path / "metrics.csv") == {}


@pytest.fixture
def run_dir(tmp_path):
    path = tmp_path / "runs" / "one"
    path.mkdir(parents=True)
    (path / "config.json").write_text(Config(seed=7).to_json())
    return path


@pytest.mark.parametrize(
    ("summary", "threshold"),
    [
        (json.dumps({"reward_threshold": 475.0}), 475.0),
        (json.dumps({"reward_threshold": None}), None),
        ("{", None),
        ("[1]", None),
        ("[" * 5_000, None),
        (None, None),
    ],
)
def test_a_run_in_progress_has_less(run_dir, summary, threshold):
    if summary is not None:
        (run_dir / "summary.json").write_text(summary)
    run = read_run(run_dir)
    assert run.config == Config(seed=7)
    assert run.columns == {}
    assert run.reward_threshold == threshold


EVALUATIONS = "env_steps,updates,wall_s,episodes,mean,std,median,min,max,unfinished,final\n"


def test_every_evaluation_is_read_and_the_final_one_is_known(run_dir):
    (run_dir / "evaluations.csv").write_text(
        EVALUATIONS
        + "800,80,1.5,10,20.5,2,20,17,24,0,0\n"
        + "1600,160,3.5,10,nan,nan,nan,nan,nan,10,0\n"  # nothing to draw
        + "1600,160,4.5,10,41,4,42,31,51,2,0\n"
        + "1600,160,5.5,20,39,1,38,37,50,0,1\n"
        + "2400,240,7.5,20,39"  # torn
    )
    (run_dir / "metrics.csv").write_text("env_steps,eval_return_mean\n900,20.5\n1600,39\n")
    first, second, last = read_run(run_dir).evaluations
    assert (first.env_steps, first.mean, first.std, first.median) == (800, 20.5, 2, 20)
    assert (first.min, first.max, first.episodes, first.final) == (17, 24, 10, False)
    assert (second.mean, second.unfinished, second.final) == (41, 2, False)
    assert (last.mean, last.episodes, last.final) == (39, 20, True)
    assert (last.updates, last.wall_s) == (160, 5.5)


@pytest.mark.parametrize("text", [None, "", EVALUATIONS, EVALUATIONS + "800,80,1", "a,b\n1,2\n"])
def test_older_runs_have_their_evaluations_in_metrics(run_dir, text):
    if text is not None:
        (run_dir / "evaluations.csv").write_text(text)
    (run_dir / "metrics.csv").write_text("env_steps,eval_return_mean\n8,\n900,20.5\n1600,39\n")
    found = read_run(run_dir).evaluations
    assert [(row.env_steps, row.mean, row.final) for row in found] == [
        (900, 20.5, False), (1600, 39, False)
    ]  # fmt: skip
    assert math.isnan(found[0].std) and math.isnan(found[0].episodes)


def test_what_an_older_version_has_left_comes_before_what_the_newer_one_wrote(tmp_path):
    (tmp_path / "evaluations.csv").write_text(EVALUATIONS + "1600,1,1,9,41,4,42,31,51,2,0\n")
    metrics = {"env_steps": [900.0, 1650.0], "eval_return_mean": [20.5, 41.0]}
    found = read_evaluations(tmp_path, metrics)
    assert [(row.env_steps, row.mean) for row in found] == [(900, 20.5), (1600, 41)]


@pytest.mark.parametrize("name", ["metrics.csv", "evaluations.csv"])
def test_rows_that_cannot_be_read_are_named(run_dir, name):
    os.mkfifo(run_dir / name)  # opening it would wait for ever
    with pytest.raises(CheckpointError, match=rf"{name} cannot be read \(it is no file\); make"):
        read_run(run_dir)


def test_what_is_no_run_is_named(run_dir, tmp_path):
    with pytest.raises(CheckpointError, match="none does not exist; name the directory"):
        read_run(tmp_path / "none")
    with pytest.raises(CheckpointError, match=r"but 1 inside it do; name those, e.g. .*one\."):
        read_run(run_dir.parent)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CheckpointError, match=r"empty holds no run \(no config.json\); name"):
        read_run(empty)
    (run_dir / "config.json").write_text("{")
    with pytest.raises(ConfigError):
        read_run(run_dir)


def test_the_configuration_of_a_checkpoint_is_that_of_its_run(run_dir):
    step = run_dir / "checkpoints" / "step_1"
    step.mkdir(parents=True)
    assert run_config(step) == run_config(run_dir) == Config(seed=7)
    with pytest.raises(CheckpointError):
        run_config(run_dir.parents[1] / "elsewhere" / "x")


# --- grouping -------------------------------------------------------------------------------------


def make(path, **changes):
    from pathlib import Path

    return Run(Path(path), Config(**changes), {}, None)


def test_seeds_of_one_configuration_are_one_group():
    runs = [
        make("a", seed=1, run_dir="a"),
        make("b", seed=1, double=False, n_step=1),
        make("c", seed=2, run_dir="c", checkpoint_keep=9, log_period_env_steps=8, max_wall_s=9.0),
    ]
    groups = group_runs(runs)
    assert [[run.path.name for run in group.runs] for group in groups] == [["a", "c"], ["b"]]
    assert [group.label for group in groups] == ["n_step 3, double True", "n_step 1, double False"]


def test_one_group_is_called_by_its_env():
    assert [group.label for group in group_runs([make("a"), make("b", seed=9)])] == ["CartPole-v1"]


def test_groups_of_different_envs_are_called_by_them():
    runs = [make("a"), make("b", env_id="Acrobot-v1", gamma=0.5), make("c", seed=3)]
    assert [group.label for group in group_runs(runs)] == ["CartPole-v1", "Acrobot-v1"]


def test_labels_are_short_and_different():
    runs = [
        make("a"),
        make("b", gamma=0.5, loss="mse", batch_size=8, mode="eager"),
        make("c", gamma=0.5, loss="mse", batch_size=8, mode="compile"),
        make("d", env_id="Acrobot-v1"),
    ]
    labels = [group.label for group in group_runs(runs)]
    assert labels[3].startswith("d: Acrobot-v1, ") and labels[3].endswith(" more")
    assert len(set(labels)) == 4
    assert max(map(len, labels)) < 80
    same_front = group_runs(
        [make(n, gamma=0.5 + (n > "x"), loss="mse", dueling=n == "y") for n in "w"]
        + [make("p", env_id="A-v1", mode="eager", gamma=0.5, loss="mse", dueling=True),
           make("q", env_id="A-v1", mode="eager", gamma=0.5, loss="mse", dueling=False)]
    )  # fmt: skip
    assert len({group.label for group in same_front}) == 3


# --- mean and interval ----------------------------------------------------------------------------


def test_the_mean_by_hand():
    total = aggregate([([0, 10, 20], [0, 10, 20]), ([0, 10, 20], [2, 6, 40])])
    assert total.env_steps.tolist() == [0, 10, 20]
    assert total.mean.tolist() == [1, 8, 30]
    assert total.low.tolist() == [0, 6, 20]
    assert total.high.tolist() == [2, 10, 40]


def test_other_env_steps_are_interpolated_and_only_what_all_cover_has_a_mean():
    total = aggregate([([0, 10, 30], [0, 10, 30]), ([5, 15, 40], [1, 1, 1])])
    assert total.env_steps.tolist() == [5, 10, 15, 30]
    assert total.mean.tolist() == [(5 + 1) / 2, (10 + 1) / 2, (15 + 1) / 2, (30 + 1) / 2]
    apart = aggregate([([0, 10], [1, 1]), ([20, 30], [2, 2])])
    assert apart.env_steps.tolist() == [] == apart.mean.tolist()


def test_five_runs_get_the_bootstrap_interval_of_the_mean():
    values = [0.0, 0.0, 0.0, 0.0, 10.0]
    total = aggregate([([0, 1], [v, 2 * v]) for v in values])
    # All 5^5 resamples: the mean is 10 k / 5 with k ~ Binomial(5, 1/5).
    means = sorted(sum(draw) / 5 for draw in itertools.product(values, repeat=5))
    low, high = np.percentile(means, [2.5, 97.5])
    assert (low, high) == (0.0, 6.0)
    assert (total.low[0], total.high[0]) == (low, high)
    assert (total.low[1], total.high[1]) == (2 * low, 2 * high)
    assert total.mean.tolist() == [2, 4]
    assert total.high[0] < 10  # not the range


def test_the_interval_covers_95_percent_of_the_resamples():
    values = [0.0, 1.0, 3.0, 7.0, 20.0]
    total = aggregate([([0], [v]) for v in values])
    means = [sum(draw) / 5 for draw in itertools.product(values, repeat=5)]
    assert total.low[0] == pytest.approx(np.percentile(means, 2.5), abs=0.2)
    assert total.high[0] == pytest.approx(np.percentile(means, 97.5), abs=0.4)
    assert total.high[0] > np.percentile(means, 95) + 0.4  # that of a 90 % interval


def test_the_interval_narrows_with_the_number_of_runs():
    rng = np.random.default_rng(3)
    widths = []
    for count in (5, 20, 80):
        total = aggregate([([0, 1, 2], [v, v, v]) for v in rng.normal(size=count)])
        widths.append(float((total.high - total.low)[0]))
        assert total.low[0] <= total.mean[0] <= total.high[0]
    # 2 * 1.96 / sqrt(n), roughly.
    assert widths[0] > 1.5 * widths[1] > 2 * widths[2]


def test_the_interval_says_what_it_is():
    assert interval_name(4) == "min to max"
    assert interval_name(5) == "95 % bootstrap of the mean"


def test_long_runs_are_thinned_with_both_ends():
    x = [float(step) for step in range(5_000)]
    total = aggregate([(x, x), (x, [y + 2 for y in x])])
    assert len(total.env_steps) == 1_000
    assert (total.env_steps[0], total.env_steps[-1]) == (0, 4_999)
    assert np.array_equal(total.mean, total.env_steps + 1)
