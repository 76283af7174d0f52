"""What ``envpool.make(..., env_type="gymnasium")`` gives, as a VectorEnv like any other."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from fastdqn.errors import EnvError


def is_envpool(envs: Any) -> bool:
    """Whether it is an object of EnvPool's, which need not be imported for the answer."""
    return any(kind.__module__.partition(".")[0] == "envpool" for kind in type(envs).__mro__)


class EnvPoolEnvs(VectorEnv):
    """A shell around an EnvPool whose spaces are batched and whose reset takes a seed.

    EnvPool resets in the step after the end of an episode, whose action it ignores: NEXT_STEP. It
    reports the end as truncated wherever it is, ``terminated`` is ``done & ~trunc``. The envs are
    seeded when they are made, so that a seed of ``reset`` reaches none of them; one warning says
    so. Vector wrappers go around this shell, not into it.

    Args:
        pool: The envs, all of which step together.

    Raises:
        EnvError: Where it has another API than Gymnasium's, or answers in part.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self, pool: Any) -> None:
        space, actions = getattr(pool, "observation_space", None), pool.action_space
        if not isinstance(space, gymnasium.Space) or not isinstance(actions, gymnasium.Space):
            raise EnvError(
                f"{type(pool).__name__} has not the API of Gymnasium; make it with "
                f"envpool.make(task, env_type='gymnasium', num_envs=...)."
            )
        config = pool.config
        self.num_envs = int(config["num_envs"])
        if config.get("batch_size") not in (None, 0, self.num_envs):
            raise EnvError(
                f"{type(pool).__name__} has num_envs = {self.num_envs} but batch_size = "
                f"{config['batch_size']}; all envs must step together, so leave batch_size out."
            )
        self.pool = pool
        self.single_observation_space, self.single_action_space = space, actions
        self.observation_space = batch_space(space, self.num_envs)
        self.action_space = batch_space(actions, self.num_envs)
        self._seed = config.get("seed")  # of env 0; the others have the numbers after it
        self._told = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start every env anew, whatever the seed."""
        if seed is not None and seed != self._seed and not self._told:
            self._told = True
            warnings.warn(
                f"EnvPool seeds its envs when it makes them: seed = {seed} does not reach "
                f"{type(self.pool).__name__}, which has {self._seed}; pass seed to envpool.make.",
                stacklevel=2,
            )
        found = self.pool.reset()
        # Older versions leave the info out, unless told otherwise.
        return found if isinstance(found, tuple) else (found, {})

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step every env; those that had ended are reset instead."""
        return self.pool.step(np.asarray(actions, np.int32))

    def close_extras(self, **kwargs: Any) -> None:
        """Release the pool."""
        self.pool.close()

    def __str__(self) -> str:
        """The class of the pool: its own text is its whole configuration."""
        return f"{type(self.pool).__name__}({self.num_envs} envs)"
