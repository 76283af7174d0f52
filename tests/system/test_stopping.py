"""Runs that stop before their time: signals to a Python program, and seconds that are over."""

import json
import os
import signal
import time
import types
from pathlib import Path

import pytest
from helpers.scripted_env import Script, ScriptedVectorEnv
from helpers.short_runs import assert_same_checkpoint, scripted, small

from fastdqn.checkpoints.store import find_checkpoint
from fastdqn.cli.main import main
from fastdqn.errors import TrainingError
from fastdqn.system import signals
from fastdqn.system.signals import StopSignals
from fastdqn.system.stopping import GO_ON_CODES, StopRequest
from fastdqn.training.train import train

STOPS = [
    (signal.SIGINT, KeyboardInterrupt, None),
    (signal.SIGTERM, SystemExit, 143),
    (signal.SIGUSR1, SystemExit, 138),
]


@pytest.fixture(autouse=True)
def handlers_of_a_terminal():
    kept = signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it behind "&"
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    signal.signal(signal.SIGINT, kept)


def killing(number, at=800):
    def on_log(row):
        if row["env_steps"] == at:
            os.kill(os.getpid(), number)
            while signals._serving[-1].name is None:  # a thread serves it
                time.sleep(0.001)

    return on_log


def summary_of(tmp_path):
    return json.loads((tmp_path / "run" / "summary.json").read_text())


# --- signals to a program that trains -----------------------------------------------------------


@pytest.mark.parametrize(("number", "error", "code"), STOPS)
def test_a_signal_ends_a_loop_over_seeds_when_its_run_is_saved(tmp_path, number, error, code):
    begun = []
    with pytest.raises(error) as caught:
        for seed in (1, 2):
            begun.append(seed)
            train(small(tmp_path, seed=seed), envs=scripted(), on_log=killing(number))
    assert begun == [1]
    assert getattr(caught.value, "code", None) == code
    assert summary_of(tmp_path)["stopped_by"] == number.name
    assert summary_of(tmp_path)["env_steps"] == 800, "after the vector step that was under way"
    assert find_checkpoint(tmp_path / "run").name == "step_000000000800"


@pytest.mark.parametrize("number", [number for number, *_ in STOPS])
def test_a_handler_of_the_callers_is_called_and_decides(tmp_path, number):
    called = []
    before = signal.signal(number, lambda *args: called.append(args[0]))
    try:
        result = train(small(tmp_path), envs=scripted(), on_log=killing(number))
        assert result.summary["stopped_by"] == number.name
        assert called == [number]
    finally:
        signal.signal(number, before)


def test_ctrl_c_counts_where_a_shell_had_it_ignored(tmp_path):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(small(tmp_path), envs=scripted(), on_log=killing(signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_signal_while_the_last_files_are_written_is_not_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "fastdqn.training.trainer.plot_returns",
        lambda *_, **__: os.kill(os.getpid(), signal.SIGINT),
    )
    with pytest.raises(KeyboardInterrupt):
        train(small(tmp_path), envs=scripted())
    assert summary_of(tmp_path)["stopped_by"] == "total_env_steps"


def test_a_run_that_fails_after_a_signal_ends_the_loop_too(tmp_path):
    def fail(row):
        killing(signal.SIGTERM, at=400)(row)
        raise TrainingError("no luck")

    with pytest.raises(SystemExit) as caught:
        train(small(tmp_path), envs=scripted(), on_log=fail)
    assert isinstance(caught.value.__context__, TrainingError)


def test_without_a_signal_nothing_is_passed_on():
    stop = StopSignals()
    with stop:
        pass
    assert stop.pass_on() is None


# --- seconds that are over -----------------------------------------------------------------------


@pytest.fixture
def seconds(monkeypatch):
    """A clock that goes on by one second with every look at it."""
    seen = iter(range(10**9))
    clock = types.SimpleNamespace(monotonic=lambda: next(seen))
    monkeypatch.setattr("fastdqn.system.stopping.time", clock)
    return clock


def test_time_is_up_once_it_has_passed_and_a_signal_comes_first(seconds):
    stop = StopRequest(2.0)
    assert [stop.name for _ in range(3)] == [None, "max_wall_s", "max_wall_s"]
    stop.signals = types.SimpleNamespace(name="SIGTERM")
    assert stop.name == stop.signal == "SIGTERM"
    assert StopRequest().name is None
    assert GO_ON_CODES == {"SIGINT": 130, "SIGTERM": 143, "SIGUSR1": 138, "max_wall_s": 124}


@pytest.mark.parametrize(("limit", "updates"), [(31, 0), (151, 49)])
def test_a_run_ends_when_its_time_is_up(tmp_path, seconds, limit, updates):
    """While the replay fills and while it learns: one look before the loop, one in each turn."""
    eval_envs = ScriptedVectorEnv(Script(2, seed=6))
    config = small(tmp_path, max_wall_s=limit)
    result = train(config, envs=scripted(), eval_envs=eval_envs)
    summary = result.summary
    assert (summary["stopped_by"], summary["env_steps"]) == ("max_wall_s", 4 * (limit - 1))
    assert summary["updates"] == updates
    assert summary["eval_return_mean"] is None, "no final evaluation"
    assert find_checkpoint(result.run_dir).name == f"step_{summary['env_steps']:012d}"


def test_an_evaluation_ends_when_the_time_is_up(tmp_path, seconds):
    config = small(tmp_path, max_wall_s=150, eval_period_env_steps=400, eval_episodes=10_000)
    summary = train(config).summary
    assert (summary["stopped_by"], summary["env_steps"]) == ("max_wall_s", 400)
    assert summary["eval_return_mean"] is None


def test_runs_of_so_many_seconds_each_are_one_run(tmp_path, seconds):
    train(small(tmp_path / "whole", total_env_steps=500), envs=scripted())
    found = []
    while not found or found[-1]["stopped_by"] == "max_wall_s":
        config = small(tmp_path / "parts", total_env_steps=500, max_wall_s=70, resume="auto")
        found.append(train(config, envs=scripted()).summary)
    assert [summary["env_steps"] for summary in found] == [276, 500]
    assert_same_checkpoint(
        find_checkpoint(tmp_path / "whole" / "run"), find_checkpoint(tmp_path / "parts" / "run")
    )


def test_the_command_line_says_how_to_go_on_and_exits_as_timeout_does(tmp_path, capsys):
    path = str(tmp_path / "run")
    args = ["train", "--run-dir", path, "--total-env-steps", "1200", "--device", "cpu"]
    args += ["--hidden-sizes", "8", "--eval-episodes", "2", "--resume", "auto"]
    assert main([*args, "--max-wall-s", "0.01"]) == 124
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "stopped by max_wall_s; to go on:",
        f"  fastdqn train --config {path} --run-dir {path} --resume require",
    ]
    assert find_checkpoint(Path(path)).name == "step_000000000000"
    assert main([*args, "--max-wall-s", "1000"]) == 0
    assert summary_of(tmp_path)["stopped_by"] == "total_env_steps"
    assert "finished" not in capsys.readouterr().out
