"""Every figure of a run is in its files, about the step it says, and can be told from others."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from helpers.scripted_env import Script, ScriptedStream, ScriptedVectorEnv
from helpers.short_runs import read_rows, small

from fastdqn import Callback
from fastdqn.acting.evaluation import EvalResult
from fastdqn.cli.train_arguments import train_config
from fastdqn.config.config import Config
from fastdqn.training.build import eval_patience, make_stream
from fastdqn.training.report import EVALUATION_COLUMNS
from fastdqn.training.train import train


def read_evaluations(run_dir):
    with (Path(run_dir) / "evaluations.csv").open() as file:
        return list(csv.DictReader(file))


def scores(run_dir):
    found = {}
    for path in sorted((Path(run_dir) / "checkpoints").iterdir()):
        found[int(path.name[5:])] = json.loads((path / "manifest.json").read_text())["score"]
    return found


# --- evaluations ---------------------------------------------------------------------------------


def test_every_evaluation_is_a_row_and_the_summary_has_the_last(tmp_path):
    seen = []

    class Seen(Callback):
        def on_evaluation(self, row):
            seen.append(dict(row))

    # The clocks of rows and of evaluations do not agree: three of ten would be in metrics.csv.
    config = small(tmp_path, eval_period_env_steps=200, log_period_env_steps=300)
    result = train(config, callbacks=Seen())
    rows = read_evaluations(result.run_dir)
    assert tuple(rows[0]) == EVALUATION_COLUMNS
    assert [int(row["env_steps"]) for row in rows] == [*range(200, 2_000, 200), 2_000]
    assert [row["final"] for row in rows] == ["0"] * 9 + ["1"]
    assert [int(row["updates"]) for row in rows[:3]] == [0, 24, 49]
    assert len(seen) == 10
    for row, told in zip(rows, seen, strict=True):
        assert {name: float(value) for name, value in row.items()} == pytest.approx(told)
    summary, last = result.summary, rows[-1]
    for name in ("mean", "std", "median", "min", "max"):
        assert summary[f"eval_return_{name}"] == pytest.approx(float(last[name]))
    assert (summary["eval_episodes"], summary["eval_env_steps"]) == (4, 2_000)
    assert float(last["min"]) <= float(last["median"]) <= float(last["max"])
    # metrics.csv repeats only what was found at the very step of a row.
    for row in read_rows(result.run_dir):
        mean = {int(e["env_steps"]): e["mean"] for e in rows}.get(int(row["env_steps"]), "")
        assert row["eval_return_mean"] == mean


def test_the_evaluation_that_ends_a_run_is_in_its_file(tmp_path, monkeypatch):
    returns = iter([[1.0], [5.0, 7.0], [2.0]])
    monkeypatch.setattr(
        "fastdqn.training.trainer.evaluate",
        lambda *_, **__: EvalResult(np.array(r := next(returns)), np.ones(len(r), np.int64), 0),
    )
    result = train(small(tmp_path, eval_period_env_steps=200, stop_eval_return=5.0))
    assert result.summary["stopped_by"] == "stop_eval_return"
    found = [
        (row["env_steps"], row["mean"], row["final"]) for row in read_evaluations(result.run_dir)
    ]
    assert found == [("200", "1", "0"), ("400", "6", "0"), ("400", "2", "1")]


def test_a_resumed_run_has_the_rows_of_an_uninterrupted_one(tmp_path):
    config = small(tmp_path, eval_period_env_steps=200, checkpoint_period_env_steps=600)

    def rows(run_dir):
        return [{k: v for k, v in r.items() if k != "wall_s"} for r in read_evaluations(run_dir)]

    def envs():
        stream = ScriptedVectorEnv(Script(4, seed=5), "NEXT_STEP")
        return {"envs": stream, "eval_envs": ScriptedVectorEnv(Script(2, seed=6), "NEXT_STEP")}

    whole = train(config.replace(run_dir=str(tmp_path / "whole")), **envs())
    train(config, **envs(), on_log=lambda row: row["env_steps"] >= 1_200)
    # What a kill leaves: rows behind the newest checkpoint.
    with (Path(config.run_dir) / "evaluations.csv").open("a") as file:
        file.write("1400,150,9,4,1,1,1,1,1,0,0\r\n1600,1")
    parts = train(config.replace(resume="require"), **envs())
    stopped = next(row for row in rows(parts.run_dir) if row["final"] == "1")
    assert stopped["env_steps"] == "1200", "the stop was the end of its session"
    assert [row for row in rows(parts.run_dir) if row != stopped] == rows(whole.run_dir)


def test_weights_have_the_score_of_their_own_evaluation_or_none(tmp_path):
    config = small(
        tmp_path, eval_period_env_steps=400, checkpoint_period_env_steps=200, checkpoint_keep=99
    )
    result = train(config)
    found = {int(row["env_steps"]): float(row["mean"]) for row in read_evaluations(result.run_dir)}
    expected = {s: found.get(s) for s in [*range(200, 2_000, 200), 2_000]}
    assert scores(result.run_dir) == pytest.approx(expected)
    assert [s for s, score in expected.items() if score is None] == [200, 600, 1000, 1400, 1800]


def test_the_best_is_kept_by_a_score_of_its_own(tmp_path, monkeypatch):
    returns = iter([3.0, 9.0, 4.0, 1.0, 2.0])  # at 400, 800, 1200, 1600; the end
    monkeypatch.setattr(
        "fastdqn.training.trainer.evaluate",
        lambda *_, **__: EvalResult(np.array([next(returns)]), np.array([1]), 0),
    )
    config = small(
        tmp_path, eval_period_env_steps=400, checkpoint_period_env_steps=200, checkpoint_keep=1,
        checkpoint_keep_best=True,
    )  # fmt: skip
    assert scores(train(config).run_dir) == {800: 9.0, 2_000: 2.0}


def test_a_resume_that_is_stopped_at_once_keeps_the_score_and_the_evaluation(tmp_path):
    config = small(
        tmp_path, total_env_steps=800, learning_rate_final=None, checkpoint_keep=1,
        checkpoint_keep_best=True,
    )  # fmt: skip
    first = train(config)
    kept = scores(first.run_dir)
    assert kept == {800: pytest.approx(first.summary["eval_return_mean"])}
    again = train(config.replace(resume="require", total_env_steps=1_600, max_wall_s=0.01))
    assert again.summary["stopped_by"] == "max_wall_s"
    assert again.summary["env_steps"] == 800, "it wrote the same checkpoint again"
    assert scores(first.run_dir) == kept
    figures = [name for name in first.summary if name.startswith("eval_")]
    assert {name: again.summary[name] for name in figures} == pytest.approx(
        {name: first.summary[name] for name in figures}
    )


# --- rules that end a run ------------------------------------------------------------------------


def test_the_stop_rule_waits_until_its_window_is_full(tmp_path):
    seen = []
    config = small(tmp_path, stop_return=5.0, stop_window=100, log_period_env_steps=40)
    result = train(
        config.replace(total_env_steps=20_000, eval_episodes=0),
        on_log=lambda row: seen.append((row["episodes"], row["return_mean"])) and None,
    )
    assert result.summary["stopped_by"] == "stop_return"
    assert seen[-1][0] >= 100 > seen[-2][0]
    assert any(mean >= 5.0 for _, mean in seen[:-1]), "the mean was reached long before"


def test_an_evaluation_without_an_end_is_given_up_and_says_so(tmp_path, capsys):
    class Never(ScriptedStream):
        """One env of two never ends an episode; the other always does."""

        def recv(self):
            step = super().recv()
            first = step.first.copy()
            first[1] = False
            return step._replace(first=first, reward=np.where(first, 0.0, 1.0).astype(np.float32))

    config = small(tmp_path, eval_patience_env_steps=300, total_env_steps=400)
    result = train(
        config,
        envs=ScriptedVectorEnv(Script(4, seed=5), "NEXT_STEP"),
        eval_envs=Never(Script(2, seed=5)),
    )
    summary = result.summary
    assert summary["eval_given_up"].startswith("none ended within 30")
    assert summary["eval_unfinished_episodes"] == 1 and summary["eval_episodes"] == 3
    (row,) = read_evaluations(result.run_dir)
    assert row["unfinished"] == "1" and float(row["max"]) > 100


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({}, 30_000),
        ({"env_kwargs": {"max_episode_steps": 40_000}}, 40_001),
        ({"env_id": "Acrobot-v1", "env_vectorization": "sync"}, 30_000),
        ({"eval_patience_env_steps": 77}, 77 / 3),
    ],
)
def test_what_an_env_allows_is_not_taken_for_endless(changes, limit):
    config = Config(**changes)
    envs = make_stream(config, num_envs=3)
    try:
        assert eval_patience(config, envs) == 3 * limit
    finally:
        envs.close()


def test_a_whole_game_of_atari_is_not_taken_for_endless():
    class Envs:
        num_envs = 16

    config = Config(env_id="ALE/Pong-v5")
    assert eval_patience(config, Envs()) == 16 * 30_000 > 16 * 108_000 // 4
    assert eval_patience(config.replace(atari_frame_skip=1), Envs()) == 16 * 108_001


# --- what a run says of itself -------------------------------------------------------------------


def test_the_header_and_the_first_steps_come_before_the_first_row(tmp_path):
    told = []

    class Told(Callback):
        def on_start(self, run):
            told.append((run.title, run.header()))

        def on_step(self, env_steps, updates):
            told.append(env_steps)

        def on_log(self, row):
            told.append("row")

    train(small(tmp_path, log_period_env_steps=1_000, eval_episodes=0), callbacks=[Told()])
    title, header = told[0]
    assert title == "CartPole-v1, seed 1"
    rows = dict(line.split(maxsplit=1) for line in header.splitlines())
    assert list(rows) == [
        "envs", "observed", "network", "algorithm", "schedule", "updates", "target", "epsilon",
        "replay", "evaluation", "files",
    ]  # fmt: skip
    assert "CartPole-v1, 4 side by side" in rows["envs"]
    for word in ("fp32", "eager", "cpu"):
        assert word in rows["network"]
    assert rows["evaluation"] == "none"
    assert "1,000 rows" in rows["replay"] and rows["files"] == str(tmp_path / "run")
    assert told[1 : told.index("row")] == list(range(4, 1_001, 4)), "also while the replay fills"


def test_the_command_line_shows_the_header_and_progress_without_a_row(tmp_path):
    args = ["--total-env-steps", "3000000", "--log-period-env-steps", "3000000", "--device", "cpu",
            "--mode", "eager"]  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "fastdqn", "train", *args, "--run-dir", str(tmp_path / "run")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(14)]
        process.terminate()
        process.communicate(timeout=60)
    where = tmp_path / "run"
    assert lines[0] == f"CartPole-v1, seed 1: preset cartpole, in {where}; loading torch ...\n"
    assert lines[1].startswith("envs ")
    assert lines[11] == f"files       {tmp_path / 'run'}\n"
    assert lines[12].strip().startswith("8/3,000,000 ("), "the first step"
    speed = re.search(r"/3,000,000 \(.* [1-9][\d,]* steps/s", lines[13])
    assert speed, "and its speed, before a row"


def test_summary_and_record_say_how_when_and_where(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["fastdqn", "train", "--seed", "1"])
    result = train(small(tmp_path, eval_episodes=0, learning_rate_final=None))
    summary = result.summary
    assert summary["command"] == ["fastdqn", "train", "--seed", "1"]
    assert summary["started"] <= summary["ended"] and summary["started"].endswith("Z")
    assert summary["host"]["cpus_usable"] >= 1 and summary["host"]["cpu"]
    assert summary["git_commit"] is None or len(summary["git_commit"]) == 40
    assert {"mode", "precision", "torch_threads", "device", "versions"} <= summary.keys()
    record = json.loads((result.run_dir / "run.json").read_text())
    assert record["envs"]["made_from_config"] and record["network"]["made_from_config"]
    assert record["envs"]["class"] == "CartPoleVectorEnv" and record["envs"]["num_envs"] == 4
    assert record["network"]["class"] == "QNetwork"
    again = small(tmp_path, total_env_steps=2_400, eval_episodes=0, learning_rate_final=None)
    train(again.replace(resume="require"))
    record = json.loads((result.run_dir / "run.json").read_text())
    assert [s["from_env_steps"] for s in record["sessions"]] == [0, 2_000]
    assert record["sessions"][0]["command"] == summary["command"]


def test_envs_and_network_of_python_are_described(tmp_path):
    from torch import nn

    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, observation):
            return self.layer(observation)

    envs = gymnasium.wrappers.vector.ClipReward(
        gymnasium.make_vec("CartPole-v1", 4, vectorization_mode="sync"), -1.0, 1.0
    )
    result = train(small(tmp_path), envs=envs, network=Mine())
    record = json.loads((result.run_dir / "run.json").read_text())
    assert not record["envs"]["made_from_config"] and not record["network"]["made_from_config"]
    assert record["envs"]["wrappers"] == ["ClipReward"]
    assert record["envs"]["class"] == "SyncVectorEnv"
    assert record["network"] | {"class": ""} == {
        "made_from_config": False, "class": "", "module": __name__, "parameters": 10,
    }  # fmt: skip
    assert record["network"]["class"].endswith("Mine")
    assert result.summary["reward_threshold"] is None, "clipped rewards count something else"


def test_the_record_of_a_resumed_run_can_be_run_again(tmp_path):
    config = small(tmp_path, eval_episodes=0, learning_rate_final=None)
    train(config.replace(total_env_steps=1_000))
    train(config.replace(resume="require"))
    recorded = Config.load(Path(config.run_dir) / "config.json")
    assert (recorded.resume, recorded.run_dir) == ("never", config.run_dir)
    again = train_config(["--config", config.run_dir, "--total-env-steps", "400"]).config
    assert (again.resume, again.run_dir, again.total_env_steps) == ("never", None, 400)
    assert again.replace(total_env_steps=2_000) == config.replace(run_dir=None)
    old = config.replace(resume="auto")  # as records of older versions have it
    (Path(config.run_dir) / "config.json").write_text(old.to_json())
    assert train_config(["--config", config.run_dir])[0] == config.replace(run_dir=None)


def test_parameters_that_were_not_evaluated_are_not_called_solved(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "fastdqn.training.trainer.evaluate",
        lambda *_, **__: EvalResult(np.array([500.0]), np.array([1]), 0),
    )
    config = small(tmp_path, eval_period_env_steps=400, log_period_env_steps=100)
    with pytest.raises(KeyboardInterrupt):
        train(config, on_log=lambda row: row["env_steps"] >= 500 and os.kill(os.getpid(), 2))
    summary = json.loads((Path(config.run_dir) / "summary.json").read_text())
    assert summary["eval_env_steps"] == 400 < summary["env_steps"] < 800
    assert summary["solved"] is None and summary["eval_return_mean"] == 500.0
    assert train(config.replace(resume="require")).summary["solved"] is True
