"""Which env ids there are: the values that ``env_id`` may have.

Here and not in ``envs/``, which needs torch: a configuration is checked before that is imported.
"""

from __future__ import annotations

from fastdqn.config.atari_ids import game_id, random_skip_advice
from fastdqn.config.env_packages import register_from_package
from fastdqn.errors import EnvError, nearest

_NATIVE = {
    "fastdqn/CartPole-v1": {
        "vector_entry_point": "fastdqn.envs.native.cartpole:CartPole",
        "max_episode_steps": 500,
        "reward_threshold": 475.0,
    },
    "fastdqn/Catch-v0": {"vector_entry_point": "fastdqn.envs.native.catch:Catch"},
    "fastdqn/Breakout-v0": {"vector_entry_point": "fastdqn.envs.native.breakout:Breakout"},
}


def is_native(env_id: str) -> bool:
    """Whether the env is one of ours: tensors on a device, which it takes as ``device``."""
    return env_id in _NATIVE


def register_native_envs() -> None:
    """Tell Gymnasium of our own envs, so that ``gymnasium.make_vec`` makes them."""
    import gymnasium
    from gymnasium.envs.registration import registry

    for env_id, spec in _NATIVE.items():
        if env_id not in registry:
            gymnasium.register(env_id, **spec)  # type: ignore[arg-type]


def known_env_ids() -> list[str]:
    """The ids that are registered without asking packages, but for those of raw Atari screens."""
    import importlib.util

    from gymnasium.envs.registration import registry

    register_native_envs()
    if importlib.util.find_spec("ale_py") is not None:
        import ale_py  # noqa: F401  (registers its games)
    return sorted(name for name in registry if not random_skip_advice(name))


def check_env_id(env_id: str) -> None:
    """Raise EnvError for ids that Gymnasium does not know, or that give raw Atari screens.

    A package that registers its envs only when asked is asked first.
    """
    from gymnasium.envs.registration import registry  # here, for --help to need no gymnasium

    register_native_envs()
    if env_id.startswith("ALE/"):
        try:
            import ale_py  # noqa: F401  (registers its games)
        except ImportError:
            return  # make_envs says how to install it
    if advice := random_skip_advice(env_id):
        raise EnvError(advice)
    if ":" in env_id or _is_known(env_id):  # a colon names a module that registers the id
        return
    register_from_package(env_id)
    if not _is_known(env_id):
        game = game_id(env_id)
        usable = sorted(name for name in registry if not random_skip_advice(name))
        alike = f" (did you mean {game!r}?)" if game else nearest(env_id, usable)
        other = f"; if a module of yours registers it, use 'module:{env_id}'"
        raise EnvError(f"There is no env {env_id!r}{alike or other}.")


def _is_known(env_id: str) -> bool:
    """Whether Gymnasium makes envs of that id, and not of ``Pong-v4`` for ``Pong``."""
    from gymnasium.envs.registration import registry

    # It resolves a name without -v<number> to the newest version; of Pong that is Pong-v4.
    return env_id in registry or any(
        name.rpartition("-v")[0] == env_id and not str(spec.entry_point).startswith("ale_py")
        for name, spec in registry.items()
    )
