"""What the numbers of well-known envs mean, for labels."""

from __future__ import annotations

from typing import Any

_VARIABLES = {
    "CartPole": ("cart position", "cart velocity", "pole angle", "pole angular velocity"),
    "MountainCar": ("position", "velocity"),
    "Acrobot": (
        "cos(angle 1)",
        "sin(angle 1)",
        "cos(angle 2)",
        "sin(angle 2)",
        "angular velocity 1",
        "angular velocity 2",
    ),
    "LunarLander": (
        "x",
        "y",
        "x velocity",
        "y velocity",
        "angle",
        "angular velocity",
        "left leg touches",
        "right leg touches",
    ),
}
_ACTIONS = {
    "CartPole": ("left", "right"),
    "MountainCar": ("left", "none", "right"),
    "Catch": ("left", "none", "right"),
    "Breakout": ("left", "none", "right"),
    "Acrobot": ("-1", "0", "+1"),
    "LunarLander": ("none", "left engine", "main engine", "right engine"),
}


def variable_names(env_id: str, count: int, frame_stack: int | None = None) -> list[str]:
    """A name for each of ``count`` entries of an observation, stack and all."""
    stack = frame_stack or 1
    known = _VARIABLES.get(_family(env_id), ())
    each = list(known) if len(known) * stack == count else [f"x{i}" for i in range(count // stack)]
    if stack == 1:
        return each
    return [
        name + (f", {stack - 1 - age} before" if age < stack - 1 else "")
        for age in range(stack)
        for name in each
    ]


def action_names(env_id: str, count: int, *, full_action_space: bool = False) -> list[str]:
    """A name for each of ``count`` actions; those of an Atari game as ALE calls them."""
    known: Any = _ACTIONS.get(_family(env_id), ())
    if env_id.startswith("ALE/"):
        known = _atari_actions(env_id, full_action_space)
    return list(known) if len(known) == count else [f"action {i}" for i in range(count)]


def _family(env_id: str) -> str:
    """CartPole, of gymnasium's or anyone's CartPole-v1."""
    return env_id.rsplit("/", 1)[-1].rsplit("-v", 1)[0]


def _atari_actions(env_id: str, full: bool) -> list[str]:
    import ale_py
    import gymnasium

    gymnasium.register_envs(ale_py)
    env = gymnasium.make(env_id, full_action_space=full)
    try:
        return [name.lower() for name in env.unwrapped.get_action_meanings()]
    finally:
        env.close()
