"""A pixel env that costs next to nothing: ready-made random frames, episodes of a fixed length."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

_POOL = 16  # vector steps after which the frames repeat


class SyntheticPixelEnvs(VectorEnv):
    """N envs of random frames, uint8 [84, 84], six actions, autoreset NEXT_STEP.

    It takes the emulator out of an end-to-end figure: what remains is the trainer's own work on
    data that no cache or compressor can make cheap. Env i starts i steps into its first episode,
    so that resets are spread out. Every other episode is truncated, the rest terminate. Rewards
    are -1, 0 or 1 and do not depend on the actions.

    Args:
        num_envs: N.
        episode_length: Steps after which an episode ends.
        frame_shape: O.
        seed: Of the frames and rewards.
    """

    def __init__(
        self,
        num_envs: int,
        *,
        episode_length: int = 1_000,
        frame_shape: tuple[int, int] = (84, 84),
        seed: int = 0,
    ) -> None:
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self.single_observation_space = Box(0, 255, frame_shape, np.uint8)
        self.single_action_space = Discrete(6)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.spec = gymnasium.envs.registration.EnvSpec(id="fastdqn-bench/SyntheticPixels-v0")
        self._length = episode_length
        rng = np.random.default_rng(seed)
        self._frames = rng.integers(0, 256, (_POOL, num_envs, *frame_shape), dtype=np.uint8)
        self._rewards = rng.integers(-1, 2, (_POOL, num_envs)).astype(np.float64)
        self._clock = 0
        self._elapsed = np.arange(num_envs) % episode_length
        self._episode = np.zeros(num_envs, dtype=np.int64)
        self._ended = np.zeros(num_envs, dtype=bool)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Start every env anew; the seed changes nothing."""
        self._clock = 0
        self._elapsed = np.arange(self.num_envs) % self._length
        self._episode[:] = 0
        self._ended[:] = False
        return self._frames[0], {}

    def step(
        self, actions: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step of all envs; those that ended with the last step reset instead."""
        self._clock += 1
        restarted = self._ended
        self._elapsed = np.where(restarted, 0, self._elapsed + 1)
        self._ended = over = self._elapsed >= self._length
        self._episode += over
        place = self._clock % _POOL
        cut = self._episode % 2 == 0
        reward = np.where(restarted, 0.0, self._rewards[place])
        return self._frames[place], reward, over & ~cut, over & cut, {}
