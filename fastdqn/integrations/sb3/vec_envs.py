"""From what people pass as ``env`` to a ``VecEnv``: an id, one env, or a ``VecEnv``."""

from __future__ import annotations

from typing import Any

import gymnasium
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack

from fastdqn.config.atari_ids import atari_meaning
from fastdqn.config.env_ids import check_env_id
from fastdqn.errors import EnvError

_ATARI_STACK = 4


def as_vec_env(env: Any, num_envs: int, verbose: int, monitor: bool = True) -> VecEnv:
    """A ``VecEnv`` with images that have their channels first, as SB3's own DQN gets it.

    Args:
        env: An id; a Gymnasium env; a ``VecEnv``. Ids of Atari games are wrapped as in SB3's
            ``make_atari_env``, four frames stacked.
        num_envs: How many to make of an id.
        verbose: 1 prints what is wrapped.
        monitor: Whether one env gets a ``Monitor``, from which returns are logged.

    Raises:
        EnvError: Where it is none of these or cannot be made.
    """
    if isinstance(env, str):
        env = _made(env, num_envs)
    elif num_envs != 1 and num_envs != getattr(env, "num_envs", 1):
        raise EnvError(f"num_envs = {num_envs} is for ids, and env is made; leave it out.")
    if not isinstance(env, gymnasium.Env | VecEnv):
        what = f"the class {env.__name__}" if isinstance(env, type) else type(env).__name__
        raise EnvError(f"env is {what}; pass an id, a gymnasium.Env or a VecEnv.")
    return BaseAlgorithm._wrap_env(env, verbose, monitor)


def _made(env_id: str, num_envs: int) -> VecEnv:
    meaning = atari_meaning(env_id)
    if meaning is None:
        check_env_id(env_id)
    try:
        if meaning is None and not env_id.startswith("ALE/"):
            return make_vec_env(env_id, n_envs=num_envs)
        # What AtariWrapper does to frames it does by itself, so the game is made without.
        kwargs: dict[str, Any] = {"frameskip": 1}
        if meaning is not None:
            env_id = meaning.env_id
            if meaning.sticky_actions is not None:
                kwargs["repeat_action_probability"] = meaning.sticky_actions
        check_env_id(env_id)
        return VecFrameStack(make_atari_env(env_id, num_envs, env_kwargs=kwargs), _ATARI_STACK)
    except EnvError:
        raise
    except Exception as error:
        why = " ".join(str(error).split()).rstrip(".") or "no reason given"
        raise EnvError(f"{env_id} cannot be made ({type(error).__name__}: {why}).") from error
