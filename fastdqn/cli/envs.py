"""``fastdqn envs``: what would be made of an env, before anything is trained on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import tyro

from fastdqn.cli.arguments import options_in, parse
from fastdqn.cli.status_line import StatusLine
from fastdqn.config.env_ids import check_env_id


@dataclass(frozen=True, kw_only=True)
class EnvsFlags:
    """The options of ``fastdqn envs``, those of ``fastdqn train`` by the same names."""

    env_id: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ENV_ID")]
    """Gymnasium id."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Extra keyword arguments for the env, as a JSON object."""
    frame_stack: int | None = None
    """Frames per observation, stacked by the replay."""
    observation_scale: Literal["auto", "none", "255"] = "auto"
    """What the network divides observations by."""
    image_layout: Literal["auto", "chw", "hwc"] = "auto"
    """Whether images have their channels first or last."""
    observation_keys: tuple[str, ...] | None = None
    """Of the parts of a Dict or Tuple observation, those to look at."""
    store_uint8: bool = False
    """Store images of floats as bytes."""


def run(args: list[str]) -> int:
    """Say how an env would be read, and what would be trained on it; ``fastdqn envs``."""
    flags = parse(
        EnvsFlags,
        args,
        prog="fastdqn envs",
        description="Say what fastdqn would make of an env; nothing is trained.",
        example="fastdqn envs LunarLander-v3",
    )
    typed = {name: value for name, value in vars(flags).items() if name in options_in(args)}
    with StatusLine() as status:
        status.say(f"{flags.env_id}: making it ...")
        from fastdqn.training.starting_point import choose

        config, chosen = choose(flags.env_id, typed)
        check_env_id(config.env_id)
        from fastdqn.training.describe import describe_env  # torch

        found = describe_env(config)
    rows = {"env": config.env_id, "preset": str(chosen), **found}
    for name, text in rows.items():
        print(f"{name:<14}{text}")
    return 0
