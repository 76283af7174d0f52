"""EnvPool's objects through the adapter: a scripted one, and EnvPool's own where there are any."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from helpers.scripted_env import Script, ScriptedVectorEnv
from helpers.short_runs import small

import fastdqn
from fastdqn.envs import make_envs
from fastdqn.envs.envpool import EnvPoolEnvs, is_envpool
from fastdqn.errors import EnvError


class ScriptedPool(gymnasium.Env):
    """A script with the API of EnvPool, as its gymnasium_envpool.py has it."""

    __module__ = "envpool.python.api"
    _seeded = 7

    def __init__(self, script: Script, batch_size: int | None = None) -> None:
        self._envs = ScriptedVectorEnv(script, "NEXT_STEP", rude=False)
        self.config = {
            "num_envs": script.num_envs,
            "batch_size": script.num_envs if batch_size is None else batch_size,
            "seed": self._seeded,
        }
        self.observation_space = self._envs.single_observation_space
        self.action_space = self._envs.single_action_space
        self.closed = 0

    def reset(self, env_id: Any = None, *, seed: Any = None, options: Any = None) -> Any:
        assert env_id is None and seed is None and options is None, "of no use to EnvPool"
        frames, _ = self._envs.reset()
        return frames, {"players": {"env_id": np.arange(len(frames), dtype=np.int32)}}

    def step(self, action: np.ndarray, env_id: Any = None) -> Any:
        assert action.dtype == np.int32 and env_id is None
        frames, reward, terminated, truncated, _ = self._envs.step(action.astype(np.int64))
        info = {"players": {"env_id": np.arange(len(frames), dtype=np.int32)}}
        return frames, reward.astype(np.float32), terminated & ~truncated, truncated, info

    def close(self) -> None:
        self.closed += 1


def test_the_rows_are_those_of_a_vector_env() -> None:
    script = Script(3)
    pool = ScriptedPool(script)
    streams = [make_envs(pool, seed=7), make_envs(ScriptedVectorEnv(script), seed=7)]
    generator = np.random.default_rng(0)
    steps = [stream.reset() for stream in streams]
    ended = 0
    for _ in range(60):
        ours, theirs = steps
        assert ours.reset is None
        np.testing.assert_array_equal(ours.observation, theirs.observation)
        np.testing.assert_allclose(ours.reward, theirs.reward)
        np.testing.assert_array_equal(ours.first, theirs.first)
        np.testing.assert_array_equal(ours.truncated, theirs.truncated)
        np.testing.assert_array_equal(ours.terminated, theirs.terminated & ~theirs.truncated)
        ended += int((ours.terminated | ours.truncated).sum())
        actions = generator.integers(0, script.num_actions, 3)
        for stream in streams:
            stream.send(actions)
        steps = [stream.recv() for stream in streams]
    assert ended > 3
    streams[0].close()
    streams[0].close()
    assert pool.closed == 1


def test_a_seed_that_reaches_no_env_is_said_once() -> None:
    stream = make_envs(ScriptedPool(Script(2)), seed=3)
    with pytest.warns(UserWarning, match="seed = 3 does not reach ScriptedPool, which has 7"):
        stream.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stream.reset(seed=4)
        make_envs(ScriptedPool(Script(2)), seed=7).reset()


def test_what_cannot_be_used_is_refused() -> None:
    with pytest.raises(EnvError, match="batch_size = 1; all envs must step together"):
        make_envs(ScriptedPool(Script(2), batch_size=1))
    of_dm = ScriptedPool(Script(2))
    of_dm.observation_space = None
    with pytest.raises(EnvError, match="env_type='gymnasium'"):
        make_envs(of_dm)
    assert not is_envpool(ScriptedVectorEnv(2)) and not is_envpool(gymnasium.make("CartPole-v1"))


@pytest.mark.slow
def test_a_run_on_a_pool(tmp_path: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = small(tmp_path, eval_episodes=0, total_env_steps=400)
        result = fastdqn.train(config, envs=ScriptedPool(Script(2)))
    assert result.summary["updates"] > 0


def test_envpool_itself() -> None:
    envpool = pytest.importorskip("envpool")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its spaces have float64 bounds
        pool = envpool.make("CartPole-v1", env_type="gymnasium", num_envs=3, seed=1)
        stream = make_envs(pool, seed=1)
    assert isinstance(stream.vector_env, EnvPoolEnvs)  # type: ignore[attr-defined]
    step, lengths, ends = stream.reset(), np.zeros(3, int), 0
    for _ in range(200):
        stream.send(np.ones(3, np.int64))  # falls over within a dozen steps
        before, step = step, stream.recv()
        np.testing.assert_array_equal(step.first, before.terminated | before.truncated)
        assert (np.abs(step.observation[step.first]) <= 0.05).all()  # CartPole's first states
        lengths = np.where(step.first, 0, lengths + 1)
        ended = step.terminated
        assert (lengths[ended] < 15).all() and not step.truncated.any()
        assert (np.abs(step.observation[ended][:, 2]) > 0.2).all()  # the last state, not the next
        ends += int(ended.sum())
    assert ends > 30
    stream.close()
