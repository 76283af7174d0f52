"""An env that shows what its space holds, at random."""

import gymnasium
from gymnasium import spaces


class Shown(gymnasium.Env):
    """An env of a given observation space."""

    def __init__(self, space):
        self.observation_space, self.action_space = space, spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}
