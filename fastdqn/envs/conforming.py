"""Single envs whose numbers are right and whose shapes are not, such as a reward of shape (1,)."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from gymnasium.vector import SyncVectorEnv, VectorEnv

from fastdqn.envs import arrays

_OF_ARRAYS = (Box, Discrete, MultiBinary, MultiDiscrete)


def conform(envs: VectorEnv) -> None:
    """Mend shapes in the envs of a SyncVectorEnv, which stacks arrays of exactly one shape.

    An AsyncVectorEnv takes more, and what it leaves of it is mended in the batch. Envs that need
    nothing by the end of their first step are rid of the wrapper, and pay for it no longer.
    """
    base = envs.unwrapped
    if type(base) is SyncVectorEnv:
        for i, env in enumerate(base.envs):
            if isinstance(env, gymnasium.Env) and not isinstance(env, Conforming):
                base.envs[i] = Conforming(env, base.envs, i)


class Conforming(gymnasium.Wrapper):
    """One env whose observation has the shape of its space, with numbers for reward and flags.

    Only dimensions of size 1 are put in or left out.

    Args:
        env: The env.
        among: The list in which it stands; the wrapper leaves it after a first step that needed
            nothing.
        index: Its place there.
    """

    def __init__(self, env: gymnasium.Env, among: list[Any], index: int) -> None:
        super().__init__(env)
        self._among, self._index = among, index
        self._needed = False

    def __getattr__(self, name: str) -> Any:
        """Attributes of the env, for whoever looks at it while the wrapper is there."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.env, name)

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """As the env's, in the shape of its space."""
        observation, info = self.env.reset(**kwargs)
        return self._shaped(observation), info

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """As the env's, with numbers for arrays of one."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        found = self._shaped(observation), *map(self._number, (reward, terminated, truncated)), info
        if not self._needed:
            self._among[self._index] = self.env
        return found

    def _shaped(self, observation: Any) -> Any:
        space = self.env.observation_space
        if not isinstance(space, _OF_ARRAYS):
            return observation
        shape, found = space.shape, np.shape(observation)
        if found == shape or arrays.without_ones(found) != arrays.without_ones(shape):
            return observation
        self._needed = True
        return np.asarray(observation, space.dtype).reshape(shape)

    def _number(self, value: Any) -> Any:
        if np.ndim(value) == 0 or np.size(value) != 1:
            return value
        self._needed = True
        return np.asarray(value).reshape(())[()]
