"""Numbers that are right in shapes that are not: mended where a reshape is the meaning."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import SyncVectorEnv
from helpers.scripted_env import Script, ScriptedEnv, ScriptedVectorEnv

from fastdqn.envs import checks, make_envs
from fastdqn.envs.conforming import Conforming
from fastdqn.errors import EnvError

SHAPES = {"number": (1,), "scalar": (), "deep": (2,)}


class Counting(gymnasium.Env):
    """Counts its steps, ends at the third, and returns them in a shape of its own."""

    def __init__(self, kind: str) -> None:
        self.kind, self.t = kind, 0
        self.observation_space = Box(-9, 9, SHAPES.get(kind, (2,)), np.float32)
        self.action_space = Discrete(2)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.t = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self.t += 1
        reward: Any = self.t / 2
        over: Any = self.t == 3
        if self.kind == "reward":
            reward = np.array([reward])
        if self.kind == "flag":
            over = np.array([[over]])
        return self._observe(), reward, over, False, {}

    def _observe(self) -> Any:
        if self.kind in ("number", "scalar"):
            return self.t
        shape = (1, 2) if self.kind == "deep" else (2,)
        return np.full(shape, self.t, np.float32)


@pytest.mark.parametrize("kind", ["number", "scalar", "deep", "reward", "flag", "well-behaved"])
def test_each_is_taken_for_what_it_means(kind: str) -> None:
    envs = SyncVectorEnv([lambda: Counting(kind)] * 2)
    stream = make_envs(envs)
    step = stream.reset()
    t = 0
    for _ in range(9):
        assert step.observation.shape == (2, *(SHAPES.get(kind, (2,)) or (1,)))
        assert (step.observation == t).all() and (step.reward == t / 2).all()
        assert (step.terminated == (t == 3)).all() and (step.first == (t == 0)).all()
        stream.send(np.zeros(2, int))
        step, t = stream.recv(), (t + 1) % 4
    # Whoever needs nothing pays for nothing; Gymnasium itself takes numbers for arrays ().
    left = [isinstance(env, Conforming) for env in envs.envs]
    assert left == [kind in ("number", "deep", "reward", "flag")] * 2


def test_the_wrapper_hides_nothing() -> None:
    script = Script(2)
    envs = SyncVectorEnv([lambda i=i: ScriptedEnv(script, i) for i in range(2)])
    make_envs(envs)
    make_envs(envs)
    for i, env in enumerate(envs.envs):
        assert isinstance(env, Conforming) and isinstance(env.env, ScriptedEnv)
        assert env.index == i and env.unwrapped is env.env
        with pytest.raises(AttributeError):
            _ = env.nothing


@pytest.mark.parametrize("shape", [(3,), (3, 1), (1, 3), (3, 1, 1)])
def test_one_value_per_env(shape: tuple[int, ...]) -> None:
    envs = ScriptedVectorEnv(3)
    value = np.arange(3).reshape(shape)
    np.testing.assert_array_equal(checks.check_per_env(envs, "reward", value), [0, 1, 2])


@pytest.mark.parametrize("shape", [(), (1,), (3, 3), (6,), (2, 3)])
def test_what_is_not_one_value_per_env_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(EnvError, match="one value per env"):
        checks.check_per_env(ScriptedVectorEnv(3), "reward", np.zeros(shape))


def test_a_flag_for_one_env() -> None:
    assert checks.check_per_env(ScriptedVectorEnv(1), "terminated", np.array(True)).shape == (1,)
