"""A run repeats bit for bit: metrics (time columns aside) and parameters. In full, in processes of
their own: ``python -m benchmarks.reliability --only determinism``.
"""

import csv

import pytest
import torch
from helpers.scripted_env import Script, ScriptedVectorEnv

from fastdqn.config.config import Config
from fastdqn.training.build import make_stream
from fastdqn.training.speed import TIME_COLUMNS
from fastdqn.training.train import train

BASE = {
    "num_envs": 4,
    "total_env_steps": 800,
    "learning_starts_env_steps": 200,
    "replay_capacity": 1_000,
    "hidden_sizes": (16,),
    "batch_size": 16,
    "log_period_env_steps": 100,
    "eval_episodes": 2,
    "eval_num_envs": 2,
    "device": "cpu",
}
PONG = {
    "env_id": "ALE/Pong-v5",
    "frame_stack": 4,
    "total_env_steps": 400,
    "update_period_env_steps": 16.0,
    "atari_max_episode_frames": 240,
    "reward_clip": 1.0,
    "torch_threads": 1,
    "env_threads": 1,
}


def outcome(run_dir, changes, make_envs=None):
    """What must repeat: the written rows and the parameters."""
    config = Config(**{**BASE, **changes, "run_dir": str(run_dir)})
    result = train(config, envs=make_envs and make_envs())
    with (run_dir / "metrics.csv").open() as file:
        rows = [
            {name: value for name, value in row.items() if name not in TIME_COLUMNS}
            for row in csv.DictReader(file)
        ]
    assert len(rows) >= 4 and any(float(row["updates"]) > 10 for row in rows)
    state = result.policy.network.state_dict()
    return rows, {name: value.cpu().clone() for name, value in state.items()}


def assert_equal(first, second):
    assert first[0] == second[0]
    assert all(torch.equal(value, second[1][name]) for name, value in first[1].items())


def test_cartpole_repeats(tmp_path):
    changes = {"dueling": True, "seed": 3}
    first = outcome(tmp_path / "a", changes)
    torch.manual_seed(99)  # nobody's generator but the run's own counts
    assert_equal(first, outcome(tmp_path / "b", changes))


def test_another_seed_is_another_run(tmp_path):
    assert outcome(tmp_path / "a", {})[0] != outcome(tmp_path / "b", {"seed": 4})[0]


def test_a_scripted_env_repeats(tmp_path):
    def envs():
        return ScriptedVectorEnv(Script(4, seed=5), "SAME_STEP")

    changes = {"prioritized": True, "n_step": 3}
    first = outcome(tmp_path / "a", changes, envs)
    assert_equal(first, outcome(tmp_path / "b", changes, envs))


@pytest.mark.slow
def test_pong_repeats_whatever_its_threads(tmp_path):
    pytest.importorskip("ale_py")
    first = outcome(tmp_path / "a", PONG)
    assert_equal(first, outcome(tmp_path / "b", {**PONG, "env_threads": 4}))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("env", ["CartPole-v1", "ALE/Pong-v5"])
def test_cuda_repeats_where_it_is_told_to(tmp_path, env):
    changes = {**(PONG if "Pong" in env else {}), "device": "cuda", "deterministic": True}
    changes |= {"prioritized": True}
    try:
        first = outcome(tmp_path / "a", changes)
        assert_equal(first, outcome(tmp_path / "b", changes))
    finally:
        torch.use_deterministic_algorithms(False)


class LockStep:
    """A stream whose envs have finished before the learner starts: no overlap."""

    def __init__(self, stream):
        self._stream = stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def send(self, actions):
        self._stream.send(actions)
        self._step = self._stream.recv()

    def recv(self):
        return self._step


@pytest.mark.parametrize("changes", [{"seed": 2}, PONG], ids=["cartpole", "pong"])
def test_overlap_changes_no_number(changes, tmp_path):
    """Updates never see the row in flight, so when the envs step makes no difference."""
    if "ALE" in changes.get("env_id", ""):
        pytest.importorskip("ale_py")
    config = Config(**{**BASE, **changes})
    overlapped = outcome(tmp_path / "a", changes, lambda: make_stream(config))
    lock_step = outcome(tmp_path / "b", changes, lambda: LockStep(make_stream(config)))
    assert_equal(overlapped, lock_step)
