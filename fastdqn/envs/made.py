"""What is known of envs as they were made, beyond their spaces."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
from gymnasium.vector import SyncVectorEnv, VectorEnv, VectorWrapper

from fastdqn.config.env_ids import is_native

# What says how to make envs, and nothing of what their returns count.
_HOW = {"num_envs", "vectorization_mode", "vector_kwargs", "render_mode", "device", "dtype"}
# Options of our own envs that do: every other one leaves the returns as they are.
_COUNTS = {"target_position", "fall_reward", "max_episode_steps"}


def vector_env(stream: Any) -> VectorEnv | None:
    """The envs behind a stream; None behind one of the caller's own."""
    envs = getattr(stream, "vector_env", None)
    return envs if isinstance(envs, VectorEnv) else None


def name_of(envs: Any) -> str:
    """What to call envs that were passed in: the id that they were made by, else their class."""
    base = getattr(vector_env(envs) or envs, "unwrapped", envs)
    single = base.envs[0] if isinstance(base, SyncVectorEnv) else None
    for made in (base, single):
        name = getattr(getattr(made, "spec", None), "id", None)
        if isinstance(name, str) and name:
            return name
    return next(kind.__name__ for kind in type(base).__mro__ if not kind.__name__.startswith("_"))


def wrappers(stream: Any) -> list[str]:
    """Names of the wrappers around the envs, the outermost first, and of those around each env."""
    envs, found = vector_env(stream), []
    while isinstance(envs, VectorWrapper):
        found.append(type(envs).__name__)
        envs = envs.env
    spec = None if envs is None else envs.spec
    around = () if spec is None else spec.additional_wrappers
    given = () if spec is None else spec.kwargs.get("wrappers") or ()
    names = [wrapper.name for wrapper in around]
    return [*found, *names, *(getattr(w, "__name__", type(w).__name__) for w in given)]


def warn_of_statistics(stream: Any) -> None:
    """Say so where a wrapper has statistics that a policy would need and does not get."""
    names, base = wrappers(stream), getattr(vector_env(stream), "unwrapped", None)
    env = base.envs[0] if isinstance(base, SyncVectorEnv) else None
    while isinstance(env, gymnasium.Wrapper):  # made by hand, with no word of it in a spec
        names.append(type(env).__name__)
        env = env.env
    if "NormalizeObservation" in names:
        warnings.warn(
            "The envs have Gymnasium's NormalizeObservation, whose statistics are not saved with "
            "the policy; leave it out and set normalize_observations = True.",
            stacklevel=2,
        )


def reward_threshold(stream: Any) -> float | None:
    """The mean return at which Gymnasium counts the envs as solved, if it says.

    None where they were made in another way than registered, for their returns may then count
    something else.
    """
    envs = vector_env(stream)
    spec = None if envs is None else envs.spec
    if spec is None or wrappers(stream):
        return None
    registered = gymnasium.registry.get(spec.id)
    if registered is None:
        return None
    changed = {
        name
        for name, value in spec.kwargs.items()
        if name not in _HOW and value != _registered(registered, name)
    }
    if is_native(spec.id):
        changed &= _COUNTS
    return None if changed else spec.reward_threshold


def max_episode_steps(stream: Any) -> int | None:
    """The longest an episode can last, where the envs say so."""
    envs = vector_env(stream)
    spec = None if envs is None else envs.spec
    if spec is None:
        return None
    limit = spec.kwargs.get("max_episode_steps", spec.max_episode_steps)
    return limit if isinstance(limit, int) and limit > 0 else None


def _registered(spec: Any, name: str) -> Any:
    if name == "max_episode_steps":
        return spec.kwargs.get(name, spec.max_episode_steps)
    return spec.kwargs.get(name, _MISSING)


_MISSING = object()
