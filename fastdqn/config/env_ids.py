"""Which env ids there are: the values that ``env_id`` may have.

Here and not in ``envs/``, which needs torch: a configuration is checked before that is imported.
"""

from __future__ import annotations

import re

from fastdqn.errors import EnvError, nearest

# BreakoutNoFrameskip-v4 and its kind; plain Breakout-v4 is known by its entry point.
_OLD_ATARI = re.compile(r"([A-Za-z]+?)(-ram)?(NoFrameskip|Deterministic)-v\d+")

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


def check_env_id(env_id: str) -> None:
    """Raise EnvError for ids that Gymnasium does not know, or that give raw Atari screens."""
    from gymnasium.envs.registration import registry  # here, for --help to need no gymnasium

    register_native_envs()
    if env_id.startswith("ALE/"):
        try:
            import ale_py  # noqa: F401  (registers its games)
        except ImportError:
            return  # make_envs says how to install it
    spec = registry.get(env_id)
    entry = getattr(spec, "entry_point", None)
    old = _OLD_ATARI.fullmatch(env_id)
    raw = isinstance(entry, str) and entry.startswith("ale_py") and not env_id.startswith("ALE/")
    if old or raw:
        game = old[1] if old else env_id.rpartition("-")[0].removesuffix("-ram")
        raise EnvError(
            f"{env_id} is slow and gives raw screens of 210x160; use 'ALE/{game}-v5', with the "
            f"Atari protocol 'classic' for the rules that papers play such ids by."
        )
    # Gymnasium resolves a name without -v<number> to the newest version.
    known = spec is not None or any(name.rpartition("-v")[0] == env_id for name in registry)
    if not known and ":" not in env_id:  # a colon names a module that registers the id
        game = _atari_game(env_id)
        alike = f" (did you mean {game!r}?)" if game else nearest(env_id, sorted(registry))
        raise EnvError(f"There is no env {env_id!r}{alike}.")


def _atari_game(name: str) -> str | None:
    """The id of the game that somebody means by ``Pong``, ``pong-v5`` or ``ms_pacman``."""
    try:
        import ale_py  # noqa: F401  (registers its games)
    except ImportError:
        return None
    from gymnasium.envs.registration import registry

    def plain(text: str) -> str:
        return text.rpartition("/")[2].partition("-")[0].replace("_", "").lower()

    games = (known for known in registry if known.startswith("ALE/") and known.endswith("-v5"))
    return next((game for game in games if plain(game) == plain(name)), None)
