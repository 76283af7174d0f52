"""Whole runs: files, counters, schedules, stopping, resuming, and what must not change a run."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from helpers.scripted_env import Script, ScriptedVectorEnv
from helpers.short_runs import assert_same_checkpoint, read_rows, same_numbers, scripted, small
from torch import nn

import fastdqn
from fastdqn.acting.evaluation import EvalResult
from fastdqn.checkpoints.store import find_checkpoint, load_checkpoint
from fastdqn.config.config import Config
from fastdqn.config.seeds import eval_seed
from fastdqn.errors import CheckpointError, ConfigError, EnvError, MemoryPlanError, TrainingError
from fastdqn.system.signals import StopSignals
from fastdqn.training.train import train
from fastdqn.training.trainer import Trainer

TESTS = Path(__file__).parents[1]


# --- a run and its files -----------------------------------------------------------------------


def test_a_run_leaves_its_files_and_true_counters(tmp_path):
    config = small(tmp_path, checkpoint_period_env_steps=600, eval_period_env_steps=800)
    result = train(config)
    names = {path.name for path in result.run_dir.iterdir()}
    assert names == {
        "config.json", "run.json", "metrics.csv", "evaluations.csv", "checkpoints", "summary.json",
        "returns.png", "lock",
    }  # fmt: skip
    assert (result.run_dir / "returns.png").read_bytes().startswith(b"\x89PNG")
    summary = json.loads((result.run_dir / "summary.json").read_text())
    assert summary == json.loads(json.dumps(result.summary))
    assert summary["env_steps"] == 2_000
    assert summary["updates"] == (2_000 - 200) // 8
    assert summary["replay_ratio"] == 2.0
    assert summary["eval_episodes"] == 4
    assert summary["stopped_by"] == "total_env_steps"
    assert summary["reward_threshold"] == 475.0 and summary["solved"] is False
    for name in ("episodes", "wall_s", "env_steps_per_s", "updates_per_s"):
        assert summary[name] > 0
    assert {"torch", "gymnasium", "python", "fastdqn"} <= summary["versions"].keys()
    rows = read_rows(result.run_dir)
    assert [int(row["env_steps"]) for row in rows] == [400, 800, 1200, 1600, 2000]
    assert [bool(row["eval_return_mean"]) for row in rows] == [False, True, False, True, True]
    assert [int(row["updates"]) for row in rows] == [24, 74, 124, 174, 225]
    assert Config.load(result.run_dir / "config.json").replace(run_dir=None) == config.replace(
        run_dir=None
    )
    assert [p.name for p in sorted((result.run_dir / "checkpoints").iterdir())] == [
        "step_000000001800",
        "step_000000002000",
    ]


def test_the_loaded_policy_acts_as_the_trained_one(tmp_path):
    result = train(small(tmp_path))
    loaded = fastdqn.load(result.run_dir)
    frames = np.random.default_rng(0).standard_normal((1000, 4), dtype=np.float32)
    assert np.array_equal(loaded.act(frames), result.policy.act(frames))
    assert isinstance(loaded.act(frames), np.ndarray)


def test_updates_keep_pace_without_loss_or_burst(tmp_path):
    for period, expected in ((0.5, 3_600), (3.0, 600), (7.5, 240), (4.0, 450)):
        config = small(tmp_path / str(period), update_period_env_steps=period, eval_episodes=0)
        seen = []
        result = train(
            config.replace(log_period_env_steps=40),
            on_log=lambda row, seen=seen: seen.append((row["env_steps"], row["updates"])) and None,
        )
        assert result.summary["updates"] == expected
        for env_steps, updates in seen[:-1]:  # those due after the newest step are still to come
            assert updates == max(0, int((env_steps - 4 - 200) / period))


def test_schedules_follow_the_clock(tmp_path):
    config = small(
        tmp_path,
        epsilon_start=1.0,
        epsilon_end=0.1,
        epsilon_duration_env_steps=1_000,
        learning_rate=1e-3,
        learning_rate_final=0.0,
    )
    trainer = Trainer(config, envs=scripted())
    try:
        for env_steps, epsilon in ((0, 1.0), (200, 1.0), (700, 0.55), (1200, 0.1), (2000, 0.1)):
            trainer.env_steps = env_steps
            trainer.set_schedules()
            assert trainer.actor.epsilon.item() == pytest.approx(epsilon)
        assert trainer.learner._optimizer.learning_rate == 0.0
        assert trainer.schedules.beta(2000) == 1.0
        assert trainer.schedules.beta(1000) == pytest.approx(0.7)
    finally:
        trainer.close()


def test_the_same_seed_gives_the_same_run_and_another_does_not(tmp_path):
    a = train(small(tmp_path / "a"))
    b = train(small(tmp_path / "b"))
    c = train(small(tmp_path / "c", seed=2))
    assert same_numbers(read_rows(a.run_dir)) == same_numbers(read_rows(b.run_dir))
    assert same_numbers(read_rows(a.run_dir)) != same_numbers(read_rows(c.run_dir))
    assert_same_checkpoint(find_checkpoint(a.run_dir), find_checkpoint(b.run_dir))


def test_evaluation_does_not_touch_training(tmp_path):
    on = train(small(tmp_path / "on", eval_period_env_steps=100, eval_epsilon=0.3))
    off = train(small(tmp_path / "off", eval_episodes=0))
    assert same_numbers(read_rows(on.run_dir)) == same_numbers(read_rows(off.run_dir))
    assert_same_checkpoint(find_checkpoint(on.run_dir), find_checkpoint(off.run_dir))


def test_global_generators_and_threads_are_left_alone(tmp_path):
    torch.manual_seed(3)
    np.random.seed(3)
    threads = torch.get_num_threads()
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(3)
    np.random.seed(3)
    train(small(tmp_path))
    assert (torch.rand(1), np.random.rand()) == expected
    assert torch.get_num_threads() == threads


# --- stopping ----------------------------------------------------------------------------------


def test_on_log_stops_the_run(tmp_path):
    rows = []

    def on_log(row):
        rows.append(dict(row))
        return len(rows) == 2

    result = train(small(tmp_path), on_log=on_log)
    assert result.summary["stopped_by"] == "on_log"
    assert result.summary["env_steps"] == 800
    assert rows[0]["env_steps"] == 400 and "loss" in rows[0]


def test_the_stop_rule(tmp_path):
    result = train(small(tmp_path, stop_return=5.0, stop_window=3))
    assert result.summary["stopped_by"] == "stop_return"
    assert result.summary["env_steps"] == 400
    result = train(small(tmp_path / "never", stop_return=1e6, stop_window=3))
    assert result.summary["stopped_by"] == "total_env_steps"


def test_a_good_evaluation_stops_the_run_and_the_end_judges_by_other_episodes(
    tmp_path, monkeypatch
):
    seeds, scores = [], iter([1.0, 5.0, 2.0])
    monkeypatch.setattr(
        "fastdqn.training.trainer.evaluate",
        lambda *_, seed, **__: (
            seeds.append(seed) or EvalResult(np.array([next(scores)]), np.array([1]), 0)
        ),
    )
    config = small(tmp_path, eval_period_env_steps=200, stop_eval_return=5.0)
    summary = train(config).summary
    assert summary["stopped_by"] == "stop_eval_return" and summary["env_steps"] == 400
    assert summary["eval_return_mean"] == 2.0
    assert seeds[0] == seeds[1] != seeds[2] == eval_seed(config)


def test_a_loss_that_is_not_finite_stops_the_run_and_says_where(tmp_path):
    class Broken(ScriptedVectorEnv):
        def step(self, actions):
            obs, reward, *rest = super().step(actions)
            if len(self.actions) > 300:
                reward = np.full_like(reward, 1e30)  # a number, but its square is none
            return obs, reward, *rest

    config = small(tmp_path, checkpoint_period_env_steps=400, total_env_steps=4_000, loss="mse")
    with pytest.raises(TrainingError, match=r"not finite since about update (\d+)") as caught:
        train(config, envs=Broken(Script(4)))
    update = int(str(caught.value).split("update ")[1].split()[0])
    assert 120 <= update <= 140, "the first bad reward enters at env step 1204, update 125"
    state = load_checkpoint(find_checkpoint(Path(config.run_dir)))
    assert all(torch.isfinite(v).all() for v in state["learner"]["network"].values())
    assert state["run"]["env_steps"] == 1_200


def test_a_signal_during_the_final_evaluation_counts(tmp_path):
    trainer = Trainer(small(tmp_path, eval_episodes=10_000), envs=None)
    timer = threading.Timer(0.0, os.kill, (os.getpid(), signal.SIGINT))
    evaluate = trainer.evaluate
    trainer.evaluate = lambda final: (timer.start(), evaluate(final=final))  # type: ignore[method-assign]
    try:
        with StopSignals() as signals:
            result = trainer.run([], signals)
    finally:
        trainer.close()
    assert result.summary["stopped_by"] == "SIGINT"
    assert result.summary["eval_return_mean"] is None
    fastdqn.load(result.run_dir)


def test_training_works_in_a_thread(tmp_path):
    results = []
    thread = threading.Thread(target=lambda: results.append(train(small(tmp_path))))
    thread.start()
    thread.join(120)
    assert results and results[0].summary["env_steps"] == 2_000


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_from_outside(tmp_path, name, code):
    arguments = ["--total-env-steps", "10000000", "--run-dir", str(tmp_path / "run")]
    arguments += ["--log-period-env-steps", "500", "--eval-episodes", "0"]
    with subprocess.Popen(
        [sys.executable, "-m", "fastdqn", "train", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "500/" in line or ",00" in line:  # it trains
                break
        process.send_signal(getattr(signal, name))
        _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["stopped_by"] == name
    fastdqn.load(tmp_path / "run")


# --- resuming ----------------------------------------------------------------------------------

RESUME = """
import sys
sys.path.insert(0, {tests!r})
from helpers.short_runs import small, scripted
from fastdqn.training.train import train
config = small(__import__("pathlib").Path({tmp!r}), {changes})
stop = {stop}
r = train(config, envs=scripted(), on_log=(lambda row: row["env_steps"] >= stop) if stop else None)
print(r.summary["env_steps"], r.summary["updates"])
"""


def in_a_new_process(tmp, stop=0, **changes):
    text = ", ".join(f"{name}={value!r}" for name, value in changes.items())
    code = RESUME.format(tests=str(TESTS), tmp=str(tmp), changes=text, stop=stop)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"prioritized": True, "n_step": 3, "dueling": True, "replay_capacity": 120},
        {"optimizer": "rmsprop", "target_period_updates": 1, "target_tau": 0.1,
         "learning_rate_final": 0.0, "loss": "mse", "max_grad_norm": 1.0},
        {"batch_norm": True, "optimizer": "rmsprop", "rmsprop_centred": False,
         "max_grad_norm": None, "max_grad_value": 1.0},
        {"target_period_updates": None, "double": False, "epsilon_schedule": "exponential"},
    ],
    ids=["plain", "per n-step wrapped", "rmsprop polyak schedules", "batch norm", "no target"],
)  # fmt: skip
def test_stop_and_resume_equals_uninterrupted(tmp_path, changes):
    whole = small(tmp_path / "whole", **changes)
    train(whole, envs=scripted())
    # 1,200 env steps = 300 vector steps: in mid-episode of most envs; 120 rows wrapped ten times.
    in_a_new_process(tmp_path / "parts", stop=1_200, **changes)
    assert find_checkpoint(tmp_path / "parts" / "run").name == "step_000000001200"
    out = in_a_new_process(tmp_path / "parts", resume="require", **changes)
    assert out.split() == ["2000", "225"]
    assert_same_checkpoint(
        find_checkpoint(tmp_path / "whole" / "run"), find_checkpoint(tmp_path / "parts" / "run")
    )
    one, other = read_rows(tmp_path / "whole" / "run"), read_rows(tmp_path / "parts" / "run")
    assert same_numbers(one) == same_numbers(other)
    frames = np.random.default_rng(1).standard_normal((1000, 3)).astype(np.float32) * 9
    policies = [fastdqn.load(tmp_path / part / "run") for part in ("whole", "parts")]
    first, second = (p.act(frames, epsilon=0.5) for p in policies)
    assert np.array_equal(first, second), "the next 1,000 actions"


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this CPU cannot flush them")
def test_denormal_numbers_are_zero_while_a_run_trains_and_no_longer(tmp_path):
    tiny, seen = torch.full((64,), 1e-38), []
    train(small(tmp_path), envs=scripted(), on_log=lambda _: seen.append((tiny * 0.1).max().item()))
    assert seen == [0.0] * 5
    assert (tiny * 0.1).min() > 0


def test_resume_just_before_the_wrap(tmp_path):
    """30 rows per env: saved when the next row goes to slot 0 again."""
    changes = {"replay_capacity": 120, "log_period_env_steps": 4, "total_env_steps": 1_000}
    train(small(tmp_path / "whole", **changes), envs=scripted())
    in_a_new_process(tmp_path / "parts", stop=4 * (30 * 10 - 1) // 4 * 4 - 476, **changes)
    in_a_new_process(tmp_path / "parts", resume="auto", **changes)
    assert_same_checkpoint(
        find_checkpoint(tmp_path / "whole" / "run"), find_checkpoint(tmp_path / "parts" / "run")
    )


def test_envs_without_state_start_anew_and_the_run_goes_on(tmp_path):
    first = train(small(tmp_path, total_env_steps=1_000, learning_rate_final=None))
    again = train(small(tmp_path, resume="require", learning_rate_final=None))
    assert again.summary["env_steps"] == 2_000
    assert again.summary["updates"] == 225, "neither a burst nor a gap"
    seen = [int(row["env_steps"]) for row in read_rows(first.run_dir)]
    assert seen == [400, 800, 1000, 1200, 1600, 2000]


def test_a_resume_without_the_replay_fills_it_first(tmp_path):
    config = small(tmp_path, checkpoint_replay="none", learning_rate_final=None)
    train(config.replace(total_env_steps=1_000), envs=scripted())
    seen = []
    train(
        config.replace(resume="require", log_period_env_steps=40),
        envs=scripted(),
        on_log=lambda row: seen.append((row["env_steps"], row["updates"])) and None,
    )
    updates = dict(seen)
    assert updates[1_160] == updates[1_200] == 100, "no update before 200 new env steps"
    assert updates[2_000] == 100 + (2_000 - 1_200) // 8


def test_resume_refusals_change_nothing(tmp_path):
    config = small(tmp_path, total_env_steps=400)
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        train(config.replace(resume="require"))
    assert not Path(config.run_dir).exists()
    train(config)
    before = {p: p.stat().st_mtime_ns for p in Path(config.run_dir).rglob("*")}
    with pytest.raises(ConfigError, match="not empty"):
        train(config)
    with pytest.raises(ConfigError, match=r"gamma = 0.5 differs from the 0.99"):
        train(config.replace(resume="auto", gamma=0.5))
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="something else"):
        train(config.replace(resume="auto", run_dir=str(tmp_path / "else")))
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file"):
        train(config.replace(run_dir=str(tmp_path / "file")))
    assert {p: p.stat().st_mtime_ns for p in Path(config.run_dir).rglob("*")} == before


def test_a_damaged_checkpoint_is_refused(tmp_path):
    config = small(tmp_path, total_env_steps=400)
    train(config)
    victim = next(find_checkpoint(Path(config.run_dir)).glob("learner-*.safetensors"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"learner-00000\.safetensors is damaged"):
        train(config.replace(resume="require"))
    with pytest.raises(CheckpointError, match="damaged"):
        fastdqn.load(config.run_dir)


# --- own parts ---------------------------------------------------------------------------------


def test_own_envs_own_eval_envs_and_own_network(tmp_path):
    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))

        def forward(self, observation):
            return self.layers(observation)

    envs = gymnasium.make_vec("CartPole-v1", num_envs=3, vectorization_mode="sync")
    eval_envs = gymnasium.make_vec("CartPole-v1", num_envs=2)
    network = Mine()
    result = train(small(tmp_path), envs=envs, eval_envs=eval_envs, network=network)
    assert result.summary["env_steps"] >= 2_000
    assert result.summary["eval_episodes"] == 4
    with pytest.raises(CheckpointError, match="network of its own"):
        fastdqn.load(result.run_dir)
    loaded = fastdqn.load(result.run_dir, network=Mine())
    frames = np.random.default_rng(0).standard_normal((50, 4), dtype=np.float32)
    assert np.array_equal(loaded.act(frames), result.policy.act(frames))


@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP", "DISABLED"])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_every_autoreset_mode_trains(tmp_path, mode, backend):
    envs = ScriptedVectorEnv(Script(4, seed=5), mode, backend=backend)
    result = train(small(tmp_path, frame_stack=2), envs=envs)
    assert result.summary["updates"] == 225
    assert result.summary["episodes"] > 100
    assert result.summary["eval_episodes"] == 0, "no eval_envs, no evaluation"


def test_refusals_come_before_anything_is_made(tmp_path):
    config = small(tmp_path)
    with pytest.raises(EnvError, match="did you mean"):
        train(config.replace(env_id="CartPole-v7"))
    with pytest.raises(EnvError, match=r"Discrete|discrete"):
        train(config.replace(env_id="Pendulum-v1"))
    with pytest.raises(MemoryPlanError, match="largest replay_capacity that fits is"):
        train(config.replace(replay_capacity=10**10))
    envs = scripted()
    with pytest.raises(ConfigError, match="other envs"):
        train(config, envs=envs, eval_envs=envs)
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no CUDA device"):
            train(config.replace(device="cuda"))
        with pytest.raises(ConfigError, match="mode = 'graph' needs a CUDA device"):
            train(config.replace(device="auto", mode="graph"))
    with pytest.raises(ConfigError, match="network = 'nature' needs images"):
        train(config.replace(network="nature"))  # not that hidden_sizes are two
    assert not Path(config.run_dir).exists()


def test_signals_are_restored_after_an_error(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(EnvError):
        train(small(tmp_path, env_id="Pendulum-v1"))
    assert signal.getsignal(signal.SIGINT) is before
    assert StopSignals().name is None


def test_describe_plans_and_runs_nothing(tmp_path):
    from fastdqn.training.describe import describe

    text = describe(small(tmp_path))
    assert "225 with batches of 16" in text and "replay ratio 2" in text and "sum tree" in text
    assert not Path(tmp_path / "run").exists()


def test_the_clock_counts_training_alone(tmp_path):
    result = train(small(tmp_path, eval_episodes=200))
    assert result.summary["train_s"] < result.summary["wall_s"]
    assert math.isclose(
        result.summary["updates_per_s"], result.summary["updates"] / result.summary["train_s"]
    )
