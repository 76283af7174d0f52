"""Envs for Stable-Baselines3 whose every observation is another one, with ends of both kinds."""

import gymnasium
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecTransposeImage

ACTIONS = 3


class Counted(gymnasium.Env):
    """Counts its observations; episodes of 3 to 9 steps, which a time limit ends every other time.

    Args:
        number: Of the env, which is in every observation.
        shape: Of an observation: [H, W, C] of bytes, or [n] of floats.
    """

    def __init__(self, number=0, shape=(8, 8, 1)):
        self.number, self.shape, self.count, self.episode = number, shape, 0, 0
        pixels = len(shape) == 3
        self.observation_space = (
            spaces.Box(0, 255, shape, np.uint8)
            if pixels
            else spaces.Box(-np.inf, np.inf, shape, np.float32)
        )
        self.action_space = spaces.Discrete(ACTIONS)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode += 1
        self.left = 3 + (5 * self.episode + self.number) % 7
        return self._see(), {}

    def step(self, action):
        self.left -= 1
        over, by_time = self.left == 0, self.episode % 2 == 0
        reward = float(np.sin(self.count + self.number) + action)
        return self._see(), reward, over and not by_time, over and by_time, {}

    def _see(self):
        self.count += 1
        if len(self.shape) == 1:
            seen = np.arange(self.shape[0]) + 100 * self.count + self.number
            return seen.astype(np.float32)
        seen = np.full(self.shape, 1 + self.number, np.uint8)
        seen[0, 0], seen[1, 0] = 1 + self.count % 250, 1 + self.count // 250
        seen[2, :, :] += np.arange(self.shape[2], dtype=np.uint8)
        return seen


def counted(n=2, shape=(8, 8, 1), stack=4, transposed=True):
    """N of them, as SB3's DQN gets them."""
    envs = DummyVecEnv([lambda i=i: Counted(i, shape) for i in range(n)])
    if stack > 1:
        envs = VecFrameStack(envs, stack)
    return VecTransposeImage(envs) if len(shape) == 3 and transposed else envs
