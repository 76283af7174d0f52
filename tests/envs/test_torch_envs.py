"""Simulators that step in torch: what ManiSkill's and Isaac Lab's envs return, from a script."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from helpers.scripted_env import Script, ScriptedVectorEnv

from fastdqn.envs import make_envs
from fastdqn.errors import EnvError

SCRIPT = Script(3, seed=2)


class ManiSkillLike(VectorEnv):
    """As ManiSkillVectorEnv: SAME_STEP, names of Gymnasium before 1.0, nested infos of tensors.

    Its ``unwrapped`` is no VectorEnv, and ``auto_reset=False`` leaves the metadata as they are.
    """

    def __init__(self, auto_reset: bool = True, metadata: dict[str, Any] | None = None) -> None:
        self.auto_reset, self.ignore_terminations = auto_reset, False
        self._env = ScriptedVectorEnv(SCRIPT, "SAME_STEP", backend="torch")
        self.num_envs = SCRIPT.num_envs
        self.metadata = {} if metadata is None else metadata
        for name in ("single_observation_space", "single_action_space"):
            setattr(self, name, getattr(self._env, name))
        self.observation_space, self.action_space = (
            self._env.observation_space,
            self._env.action_space,
        )

    @property
    def unwrapped(self) -> Any:
        return gymnasium.make("CartPole-v1").unwrapped

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return self._env.reset(seed=seed)[0], {"elapsed_steps": torch.zeros(3)}

    def step(self, actions: Any) -> tuple[Any, ...]:
        frames, reward, terminated, truncated, found = self._env.step(actions)
        dones = terminated | truncated
        info = {"elapsed_steps": torch.ones(3), "success": terminated}
        if dones.any():
            info["final_info"] = {"success": terminated, "episode": {"return": reward}}
            info["final_observation"] = found["final_obs"]
            for name in ("_final_info", "_final_observation", "_elapsed_steps"):
                info[name] = dones
        return frames, reward.float()[:, None], terminated, truncated, info


class IsaacLike(gymnasium.Env):
    """As Isaac Lab's envs: an Env that is many, with batched spaces beside single ones."""

    def __init__(self, metadata: dict[str, Any]) -> None:
        self.metadata = metadata
        self._envs = ScriptedVectorEnv(SCRIPT, "SAME_STEP", backend="torch")
        for name in ("num_envs", "single_observation_space", "single_action_space"):
            setattr(self, name, getattr(self._envs, name))
        self.observation_space = self._envs.observation_space
        self.action_space = self._envs.action_space

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return self._envs.reset(seed=seed)[0], {"log": {}}

    def step(self, actions: Any) -> tuple[Any, ...]:
        *found, info = self._envs.step(actions)
        return *found, {"log": {"Episode/length": torch.ones(())}, **info}


def rows(envs: Any, steps: int = 60) -> list[list[np.ndarray]]:
    stream = make_envs(envs, seed=0)
    generator = np.random.default_rng(1)
    found = [stream.reset()]
    for _ in range(steps):
        stream.send(generator.integers(0, stream.num_actions, stream.num_envs))
        found.append(stream.recv())
    stream.close()
    return [[np.asarray(x) for x in step if x is not None] for step in found]


SAME_STEP = {"autoreset_mode": AutoresetMode.SAME_STEP}


@pytest.mark.parametrize(
    "envs", [ManiSkillLike(), ManiSkillLike(metadata=SAME_STEP), IsaacLike(SAME_STEP)]
)
def test_the_rows_are_those_of_gymnasiums_envs(envs: Any) -> None:
    for ours, theirs in zip(rows(envs), rows(ScriptedVectorEnv(SCRIPT, "SAME_STEP")), strict=True):
        assert len(ours) == len(theirs)
        for x, y in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(x, y)


def test_envs_that_do_not_reset_are_refused() -> None:
    with pytest.raises(EnvError, match="make it with auto_reset=True"):
        make_envs(ManiSkillLike(auto_reset=False, metadata=SAME_STEP))
    with pytest.raises(EnvError, match="does not say when it resets"):
        make_envs(IsaacLike({"render_modes": []}))
