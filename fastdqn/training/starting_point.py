"""Which preset an env starts from, where nobody has named one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastdqn.config.config import Config
from fastdqn.config.env_ids import check_env_id
from fastdqn.config.presets import preset, presets
from fastdqn.errors import ConfigError, EnvError, nearest

_BY_ID = {
    "CartPole-v1": "cartpole",
    "fastdqn/CartPole-v1": "cartpole",
    "fastdqn/Catch-v0": "catch",
}
_LARGE = 36  # pixels: what network nature needs


# What decides how an env is made, and what its observations are.
_OF_ENV = (
    "env_kwargs",
    "env_vectorization",
    "frame_stack",
    "observation_scale",
    "image_layout",
    "observation_keys",
    "store_uint8",
)


@dataclass(frozen=True)
class StartingPoint:
    """A preset, what of it does not suit the env, and why it was chosen."""

    preset: str
    why: str
    changes: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        changed = ", ".join(f"{name} = {value}" for name, value in self.changes.items())
        return f"{self.preset}, {self.why}" + (f", with {changed}" if changed else "")


def config_for(env_id: str, **changes: Any) -> Config:
    """A configuration for an env, from the preset that suits its observations.

    Args:
        env_id: Gymnasium id; the env is made once to look at it.
        **changes: Of other fields of :class:`fastdqn.Config`.

    Raises:
        EnvError: Where the env cannot be made, or is nothing for a DQN.
        ConfigError: Where a change is none.
    """
    return choose(env_id, changes)[0]


def config_named(name: str) -> Config:
    """The preset of this name, or :func:`config_for` where it is the id of an env.

    Raises:
        ConfigError: Where it is neither, but nearly a preset.
        EnvError: Where it is neither, the env cannot be made, or it is nothing for a DQN.
    """
    known = presets()
    if name in known:
        return known[name]
    try:
        check_env_id(name)
    except EnvError:
        alike = nearest(name, list(known))
        if alike and not re.search(r"[/:]|-v\d+$", name):
            raise ConfigError(f"config = {name!r} is neither a preset nor an env{alike}.") from None
        raise
    return config_for(name)


def choose(
    env_id: str, changes: Mapping[str, Any], *, before_a_look: Callable[[], None] | None = None
) -> tuple[Config, StartingPoint]:
    """As :func:`config_for`, and what was chosen.

    Args:
        env_id: Gymnasium id.
        changes: Of other fields.
        before_a_look: Called where torch has to be loaded and the env made, to look at it.
    """
    plain = Config()
    asked = Config(env_id=env_id).replace(**{n: v for n, v in changes.items() if n in _OF_ENV})
    found = starting_point(asked, before_a_look)
    # An old id also says how to play.
    said = {
        name: value
        for name, value in vars(asked).items()
        if name.startswith("atari_") and value != getattr(plain, name)
    }
    given = {**found.changes, "env_id": asked.env_id, **said, **changes}
    return preset(found.preset).replace(**given), found


def starting_point(
    config: Config, before_a_look: Callable[[], None] | None = None
) -> StartingPoint:
    """The preset for the env of a configuration; only its fields about the env are looked at.

    Args:
        config: The configuration.
        before_a_look: As of :func:`choose`.

    Raises:
        EnvError: Where the env cannot be made, or is nothing for a DQN.
    """
    env_id, kwargs = config.env_id, config.env_kwargs
    check_env_id(env_id)
    if env_id in _BY_ID and not kwargs:
        return StartingPoint(_BY_ID[env_id], f"for {env_id}")
    if env_id.startswith("ALE/"):
        if kwargs.get("obs_type") != "ram":
            return StartingPoint("dqn-atari", "for Atari's screens")
        return StartingPoint("dqn-atari", "for Atari", {"network": "mlp", "frame_stack": None})
    if before_a_look is not None:
        before_a_look()
    return _by_observation(config)


def _by_observation(config: Config) -> StartingPoint:
    from fastdqn.spaces import Spaces
    from fastdqn.training.build import make_stream  # torch, which known ids do without

    envs = make_stream(config, num_envs=1)
    try:
        spaces = Spaces.of(envs)
    finally:
        envs.close()
    image = spaces.frame_shape if spaces.image else spaces.format.packed_image
    if image is None:
        return StartingPoint("classic", f"for {spaces.format}")
    height, width = image[-2:]
    if min(height, width) < _LARGE:
        return StartingPoint("small-images", f"for images of {height} x {width}")
    return StartingPoint("images", f"for images of {height} x {width}")
