"""Runs read from the disk: rows, evaluations, configurations."""

import json
import math
import os

import pytest

from fastdqn.config.config import Config
from fastdqn.errors import CheckpointError, ConfigError
from fastdqn.runs.reader import curve, read_columns, read_evaluations, read_run, run_config

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
